"""What a scenario finds: settings, agents, tools, signals, sessions.

Agents, tools, boundaries and the like are plain JSON here: the client takes them as they stand and
refuses unknown names, so that a new field of the API needs no change here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pydantic import Field, model_validator

from placet._calls.entities import put_entities
from placet._calls.registry import put_agents, put_tools
from placet._calls.sessions import open_session_request
from placet.errors import PlacetError
from placet.scenario.document import Path
from placet.scenario.model import JsonObject, Name, Part, Text
from placet.scenario.times import Span

Found = Iterator[tuple[Path, str]]


def find_refusals(path: Path, field: str, build: Callable[[], Any]) -> Found:
    """Yield what the client refuses of the value at `path`, which it calls `field`, when `build` runs."""
    try:
        build()
    except PlacetError as exc:
        for item in exc.violations:
            named = item.field.removeprefix(field)
            yield (*path, *_parts(named)), item.description


def _parts(named: str) -> Path:
    parts: list[str | int] = []
    for word in named.replace("[", ".[").split("."):
        if word.startswith("[") and word[1:-1].isdigit():
            parts.append(int(word[1:-1]))
        elif word:
            parts.append(word)
    return tuple(parts)


class Timed(Part):
    """Something that expires."""

    expires_in: Span | None = None
    """From when it is written."""
    expires_at: Span | None = None
    """From the scenario's start."""

    @model_validator(mode="after")
    def _one(self) -> Timed:
        if self.expires_in is not None and self.expires_at is not None:
            raise ValueError("has expires_in and expires_at; give one")
        return self

    @property
    def has_expiry(self) -> bool:
        return self.expires_in is not None or self.expires_at is not None

    def expiry(self, *, start: datetime, now: datetime) -> datetime | None:
        if self.expires_in is not None:
            return now + self.expires_in
        return start + self.expires_at if self.expires_at is not None else None


class Signal(Timed):
    name: Text
    value: Any


class Terms(Timed):
    """What a session is opened with."""

    principal: Text = "user:anna"
    agent: Text
    boundary: JsonObject = Field(default_factory=dict)
    """What serving the task may need, as the API has it. Empty permits nothing."""
    task: Text | JsonObject | None = None
    """The task (id, description, prompt), or its id; absent: the session's name."""
    signed_by: Text | None = None
    """The issuer that signs the task; whoever runs the agent opens the session with that."""

    @property
    def has_instants(self) -> bool:
        """Whether instants are sent; a signature has one."""
        return self.has_expiry or self.signed_by is not None

    def terms(self, name: str, suffix: str = "") -> dict[str, Any]:
        """Return arguments of `open_session`. `suffix` sets the task's id apart from that of other runs."""
        task = {"id": self.task} if isinstance(self.task, str) else dict(self.task or {"id": name})
        if isinstance(task.get("id"), str):
            task["id"] += suffix
        return {"task": task, "principal": self.principal, "agent": self.agent, "boundary": self.boundary}

    def terms_faults(self, path: Path, name: str) -> Found:
        def build() -> object:
            return open_session_request(**self.terms(name), expires_in=None, expires_at=None)

        return find_refusals(path, "", build)


class Fixture(Part):
    settings: JsonObject = Field(default_factory=dict)
    """The tenant's settings; what is absent, the bundle's defaults decide."""
    agents: list[JsonObject] = Field(default_factory=list)
    """As `placet admin put-agents` takes them."""
    tools: list[JsonObject] = Field(default_factory=list)
    """As `placet admin put-tools` takes them."""
    entities: list[JsonObject] = Field(default_factory=list)
    """As `placet entity put` takes them."""
    signals: list[Signal] = Field(default_factory=list)
    issuers: list[Text] = Field(default_factory=list)
    """Issuers of signed tasks; each gets a key."""
    sessions: dict[Name, Terms] = Field(default_factory=dict)
    """Sessions by the names that steps call them."""

    def merge(self, more: Fixture) -> Fixture:
        """Return a fixture with both; where a name is in both, the part from `more`."""
        return Fixture(
            settings=self.settings | more.settings,
            agents=_merge_lists(("agent",), self.agents, more.agents),
            tools=_merge_lists(("name",), self.tools, more.tools),
            entities=_merge_lists(("type", "id"), self.entities, more.entities),
            signals=[*{signal.name: signal for signal in (*self.signals, *more.signals)}.values()],
            issuers=[*dict.fromkeys((*self.issuers, *more.issuers))],
            sessions=self.sessions | more.sessions,
        )

    def timed(self) -> bool:
        return any(signal.has_expiry for signal in self.signals) or any(
            terms.has_instants for terms in self.sessions.values()
        )

    def faults(self, path: Path) -> Found:
        yield from find_refusals((*path, "agents"), "agents", lambda: put_agents(self.agents))
        yield from find_refusals((*path, "tools"), "tools", lambda: put_tools(self.tools))
        yield from find_refusals((*path, "entities"), "entities", lambda: put_entities(self.entities))
        for name, terms in self.sessions.items():
            yield from terms.terms_faults((*path, "sessions", name), name)


def _merge_lists(names: tuple[str, ...], *lists: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of all lists; of items with the same values under `names`, the last."""
    found = {tuple(str(item.get(name)) for name in names): item for items in lists for item in items}
    return list(found.values())
