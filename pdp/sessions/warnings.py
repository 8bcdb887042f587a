"""What a session's terms name that is not there, or can never be used: said at opening, and never refused.

Something may be registered a minute later, so that a session may be opened before. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from pdp.model import Boundary, RegistryOutline, Session, SessionState, SessionWarning, ToolOutline
from pdp.sessions.tool_filter import may_be_allowed

# A boundary may name a thousand things.
MAX_WARNINGS = 100


def find_warnings(session: Session, outline: RegistryOutline) -> tuple[SessionWarning, ...]:
    """Return what whoever opened the session should know, by its terms; at most `MAX_WARNINGS`."""
    found = list(_find(session, outline))
    if len(found) > MAX_WARNINGS:
        rest = len(found) - MAX_WARNINGS + 1
        more = SessionWarning(code="more", field="boundary", message=f"there are {rest} further warnings")
        found = [*found[: MAX_WARNINGS - 1], more]
    return tuple(found)


def _find(session: Session, outline: RegistryOutline) -> Iterator[SessionWarning]:
    boundary = session.boundary
    within = (boundary,) if session.template is None else (boundary, session.template)
    if not outline.agent_known:
        yield SessionWarning(
            code="agent.unknown",
            field="agent",
            message=f"no agent {session.agent} is registered: it clears no trust floor",
        )
    tools = {tool.name: tool for tool in outline.tools}
    yield from _tools(boundary, within, tools)
    effects = {tool.effect for tool in outline.tools}
    for index, effect in enumerate(boundary.effects):
        if effect not in effects:
            yield SessionWarning(
                code="boundary.effect_unknown",
                field=f"boundary.effects[{index}]",
                message=f"no registered tool has the effect {effect}",
            )
    types = {tool.resource.partition(":")[0] for tool in outline.tools}
    for index, rule in enumerate(boundary.resources):
        if rule.type not in types:
            yield SessionWarning(
                code="boundary.resource_type_unknown",
                field=f"boundary.resources[{index}]",
                message=f"no registered tool has resources of the type {rule.type}",
            )
    if not any(may_be_allowed(tool, within, state) for tool in outline.tools for state in _STATES):
        yield SessionWarning(
            code="boundary.permits_nothing",
            field="boundary",
            message="no registered tool can be used within the session's boundary"
            + ("" if session.template is None else " and the tenant's template"),
        )


_STATES = (SessionState.OPEN, SessionState.COMPLETED)


def _tools(
    boundary: Boundary, within: tuple[Boundary, ...], tools: dict[str, ToolOutline]
) -> Iterator[SessionWarning]:
    for field, names, state in (
        ("tools", boundary.tools, SessionState.OPEN),
        ("after_completion", boundary.after_completion, SessionState.COMPLETED),
    ):
        for index, name in enumerate(names):
            at = f"boundary.{field}[{index}]"
            if name not in tools:
                yield SessionWarning(
                    code="boundary.tool_unknown", field=at, message=f"no tool {name} is registered"
                )
            elif not may_be_allowed(tools[name], within, state):
                yield SessionWarning(
                    code="boundary.tool_unusable",
                    field=at,
                    message=f"{name} is blocked whatever its arguments: see the type of its resource, its "
                    "amounts and the tenant's template",
                )
