"""Cases of the invoice story, as another project writes them, read as scenarios.

Generic: whatever fixture a file has, its patches are applied and its registry, entities, settings
and boundary become those of a scenario. What is not understood raises, so that nothing is left out
unseen; what needs a reviewer is left out, and said.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NORMALISE = {
    "trim": "trim",
    "upper case": "upper",
    "lower case": "lower",
    "runs of spaces and underscores to one hyphen": "hyphenate",
}
FORGED = {
    r".*'s grant left out": "left_out",
    "wrong parent hash": "wrong_parent",
    "one bit of the signature flipped": "flipped_signature",
    r"a grant over (\d+) that \w+ signed itself": "self_signed",
}
AMOUNT_ROLES = ("amount", "currency")
# What each part of a fixture may say.
PARTS = {
    "fixture": {
        "note",
        "tenant",
        "credential",
        "tool_identity",
        "humans",
        "agents",
        "task",
        "entities",
        "settings",
        "registry",
        "orders",
        "prerequisite_rule",
    },
    "task": {"id", "principal", "root_agent", "prompt", "expires", "boundary", "template"},
    "boundary": {"tools", "after_completion", "resources", "limits"},
    "tool": {
        "effect",
        "reversible",
        "args",
        "unit",
        "resource",
        "entities",
        "business_key",
        "normalise",
        "prerequisite",
        "output",
    },
}
# What each step may say.
MEMBERS = {
    "set_entity": {"entity", "set"},
    "open": {"session", "task", "root_agent", "boundary"},
    "complete": {"by"},
    "outcome": {"of", "as", "result", "output"},
    "delegate": {"from", "to", "per_action", "total", "expect"},
    "evaluate": {
        "agent",
        "tool",
        "args",
        "expect",
        "any_code_of",
        "session",
        "chain",
        "forge",
        "at",
        "check",
    },
}
# Steps that wait for a person.
REVIEW = ("resolve", "request_review", "evaluate_each")


class UnknownFormError(Exception):
    """Something that this reader does not understand."""


def patched(fixture: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The fixture with each dotted path replaced, merged (a mapping) or added to ("path +")."""
    result: dict[str, Any] = copy.deepcopy(dict(fixture))
    for path, value in patch.items():
        *parents, last = path.removesuffix(" +").split(".")
        place = result
        for name in parents:
            place = place[name]
        if path.endswith(" +"):
            place[last] = [*place[last], *value]
        else:
            place[last] = _merged(place.get(last), value)
    return result


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {name: _merged(old.get(name), value) for name, value in new.items()}
    return new


def _known(value: Mapping[str, Any], part: str) -> None:
    if unknown := value.keys() - PARTS[part]:
        raise UnknownFormError(f"{part}: {', '.join(sorted(unknown))}")


# --- the fixture ----------------------------------------------------------------


def settings(said: Mapping[str, Any], currency: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in said.items():
        text = str(value)
        number = text.split()[0]
        exceed = re.search(r"on_exceed: (\w+)", text)
        on_exceed = exceed[1] if exceed else "escalate"
        if name == "auto_max":
            found["large_amount"] = {currency: number}
        elif name == "dual_control_from":
            found["dual_control_amount"] = {currency: number}
        elif name in ("po_tolerance", "variance_block_factor"):
            found[name] = float(number)
        elif name == "counterparty_session_total":
            found[name] = {currency: {"max": number, "on_exceed": on_exceed}}
        elif name == "velocity":
            window = re.match(r"(\d+) actions of effect pay per (\d+) s", text)
            if window is None:
                raise UnknownFormError(f"settings.velocity: {text}")
            limit = {"max": int(window[1]), "window_seconds": int(window[2]), "on_exceed": on_exceed}
            found[name] = {"payments": limit}
        elif name in ("trust_floor", "max_chain_depth"):
            found[name] = value
        elif name != "approval_ttl":
            raise UnknownFormError(f"settings.{name}")
    return found


def tools(fixture: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_tool(name, said, fixture["entities"]) for name, said in fixture["registry"].items()]


def _tool(name: str, said: Mapping[str, Any], entities: Mapping[str, Any]) -> dict[str, Any]:
    _known(said, "tool")
    roles: dict[str, str] = said["args"]
    amounts = {role: argument for argument, role in roles.items() if role in AMOUNT_ROLES}
    form: dict[str, Any] = {
        "name": name,
        "effect": said["effect"],
        "reversible": said.get("reversible", True),
        "resource": said["resource"],
        "arguments_schema": {
            "type": "object",
            "properties": {
                argument: {"type": ["number", "string"] if role == "amount" else "string"}
                for argument, role in roles.items()
            },
            "required": list(roles),
            "additionalProperties": False,
        },
        "argument_roles": {a: role for a, role in roles.items() if role not in AMOUNT_ROLES},
    }
    if amounts:
        form["amount"] = {
            "argument": amounts["amount"],
            "unit": said["unit"],
            "currency_argument": amounts["currency"],
        }
    if "entities" in said:
        form["entities"] = list(_entity_refs(said, roles, entities))
    if "normalise" in said:
        form["normalise"] = {
            argument: [NORMALISE[step] for step in text.split(", ")]
            for argument, text in said["normalise"].items()
        }
    if "business_key" in said:
        form["business_key"] = {"arguments": said["business_key"]}
    if "prerequisite" in said:
        form["prerequisites"] = [said["prerequisite"]]
    if "output" in said:
        trusts = {"trusted": "record", "untrusted": "free_text"}
        form["output"] = {
            "format": said["output"]["format"],
            "fields": {n: trust for key, trust in trusts.items() for n in said["output"].get(key, ())},
        }
    return form


def _entity_refs(
    said: Mapping[str, Any], roles: Mapping[str, str], entities: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    record = said["resource"].partition(":")[0]
    for text in said["entities"]:
        kind, _, source = text.partition(":")
        ref: dict[str, Any] = {"name": kind, "type": kind}
        via = re.fullmatch(r" of the (\w+)", source)
        argument = re.fullmatch(r"\{(\w+)\}", source)
        if via:
            amount = _amount_attribute(entities[kind])
            ref |= {"via": {"entity": via[1], "attribute": kind}, "role": "order", "amount_attribute": amount}
        elif argument and kind == record:
            ref |= {"id": source, "role": "record", "amount_attribute": _amount_attribute(entities[kind])}
            if any("currency" in attributes for attributes in entities[kind].values()):
                ref["currency_attribute"] = "currency"
        elif argument and roles[argument[1]] == "destination":
            ref |= {"id": source, "role": "counterparty"}
            if any(kind in attributes for attributes in entities[record].values()):
                ref["must_match"] = {"entity": record, "attribute": kind}
        else:
            raise UnknownFormError(f"entities: {text}")
        yield ref


def _amount_attribute(known: Mapping[str, Mapping[str, Any]]) -> str:
    names = {
        name
        for attributes in known.values()
        for name, value in attributes.items()
        if re.fullmatch(r"\d+(\.\d+)?", str(value))
    }
    if len(names) != 1:
        raise UnknownFormError(f"which of {sorted(names)} is the amount?")
    return names.pop()


def resource_rule(text: str) -> str | dict[str, Any]:
    """ "invoice:INV-1", "invoice:INV-11*", or "vendor: those of the listed invoices"."""
    of = re.fullmatch(r"(\w+): those of the listed (\w+)s", text)
    if of:
        return {"type": of[1], "attribute": {"of_type": of[2], "attribute": of[1]}}
    return text


def boundary(said: Mapping[str, Any]) -> dict[str, Any]:
    _known(said, "boundary")
    return {
        "tools": said["tools"],
        "after_completion": said.get("after_completion", []),
        "resources": [resource_rule(text) for text in said["resources"]],
        "amounts": [said["limits"]],
    }


# --- the steps ------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Reader:
    """Reads the steps of one case, which has this fixture."""

    fixture: Mapping[str, Any]
    roots: dict[str, str] = field(default_factory=dict)
    # By session and agents, the name of the chain that was delegated.
    chains: dict[tuple[str, ...], str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    now: int = 0
    left_out: list[str] = field(default_factory=list)

    def steps(self, said: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        self.roots["main"] = self.fixture["task"]["root_agent"]
        yield from self._handed_on_before(said)
        for number, step in enumerate(said):
            if step["do"] in REVIEW:
                self.left_out = [item["do"] for item in said[number:]]
                return
            if "at" in step:
                yield {"advance": f"{step['at'] - self.now}s"}
                self.now = step["at"]
            read = getattr(self, f"_{step['do']}", None)
            if read is None:
                raise UnknownFormError(f"do: {step['do']}")
            if unknown := step.keys() - MEMBERS[step["do"]] - {"do"}:
                raise UnknownFormError(f"{step['do']}: {', '.join(sorted(unknown))}")
            yield from read(step)

    def _handed_on_before(self, said: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """A case that says of no delegation has it before it begins: its task may be completed first."""
        told = [
            [step["from"], step["to"]] for step in said if step["do"] == "delegate" and not _refused(step)
        ]
        for step in said:
            if step["do"] == "evaluate" and step.get("session", "main") == "main":
                agents = self._agents(step)
                if len(agents) > 1 and agents not in told:
                    yield from self._chain("main", agents)

    def _agents(self, step: Mapping[str, Any]) -> list[str]:
        """The chain that an evaluate has, root first."""
        root = self.roots[step.get("session", "main")]
        agents: list[str] = step.get("chain", [root] if step["agent"] == root else [root, step["agent"]])
        if agents[-1] != step["agent"]:
            raise UnknownFormError(f"{step['agent']} is not the last of {agents}")
        return agents

    @property
    def _runtime(self) -> dict[str, Any]:
        credential = self.fixture["credential"]
        return {
            "subject": credential["id"],
            "roles": ["agent"],
            "agents": credential["may_speak_for"],
        }

    def _set_entity(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"set_entity": step["entity"], "attributes": step["set"]}

    def _open(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        task = self.fixture["task"]
        form = re.fullmatch(rf"as {re.escape(task['id'])}(?:, resource (\S+))?", step["boundary"])
        if form is None:
            raise UnknownFormError(f"boundary: {step['boundary']}")
        own = dict(task["boundary"])
        if form[1]:
            own["resources"] = [form[1]]
        self.roots[step["session"]] = step["root_agent"]
        yield {
            "open": step["session"],
            "task": step["task"],
            "principal": task["principal"],
            "agent": step["root_agent"],
            "boundary": boundary(own),
            "expires_in": f"{task['expires']}s",
        }

    def _complete(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"complete": "main", "as": {"subject": step["by"]}}

    def _outcome(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if (step["of"], step["as"]) != ("previous", "tool"):
            raise UnknownFormError(f"outcome of {step['of']} as {step['as']}")
        form: dict[str, Any] = {
            "outcome": self.calls[-1],
            "result": step["result"],
            "as": {"subject": self.fixture["tool_identity"], "roles": ["tool"], "tools": ["*"]},
        }
        yield form | ({"output": step["output"]} if "output" in step else {})

    def _delegate(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        refused, held = _refused(step), self._held("main", step["from"])
        name = f"chain-{len(self.chains)}{'-refused' if refused else ''}"
        form: dict[str, Any] = {
            "delegate": name,
            "session": "main",
            "to": step["to"],
            "as": self._runtime,
        }
        limits = {n: step[n] for n in ("per_action", "total") if n in step}
        if limits:
            own = self.fixture["task"]["boundary"]["limits"]
            form["narrow"] = {"amounts": [own | limits]}
        if len(held) > 1:
            form["from"] = self.chains[("main", *held)]
        if refused:
            form["expect"] = {"error": {"reason": "GRANT_EXCEEDS_PARENT"}}
        else:
            self.chains[("main", *held, step["to"])] = name
        yield form

    def _held(self, session: str, agent: str) -> list[str]:
        """The one chain on which an agent holds authority: the root's, or a delegated one."""
        if agent == self.roots[session]:
            return [agent]
        found = [list(key[1:]) for key in self.chains if key[0] == session and key[-1] == agent]
        if len(found) != 1:
            raise UnknownFormError(f"{agent} has {len(found)} chains")
        return found[0]

    def _chain(self, session: str, agents: list[str]) -> Iterator[dict[str, Any]]:
        """Delegations that are not there yet, one a hop."""
        if agents[0] != self.roots[session]:
            raise UnknownFormError(f"a chain that begins with {agents[0]}")
        for end in range(2, len(agents) + 1):
            key = (session, *agents[:end])
            if key in self.chains:
                continue
            step = {
                "delegate": f"chain-{len(self.chains)}",
                "session": session,
                "to": agents[end - 1],
                "as": self._runtime,
            }
            if end > 2:
                step["from"] = self.chains[key[:-1]]
            self.chains[key] = step["delegate"]
            yield step

    def _evaluate(self, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        session = step.get("session", "main")
        agents = self._agents(step)
        self.calls.append(f"call-{len(self.calls)}")
        expect: dict[str, Any] = {"effect": step["expect"]}
        if "any_code_of" in step:
            expect["any_code"] = step["any_code_of"]
        if step.get("check") == "the two receipts carry different data revisions":
            expect["receipt"] = {"differs_from": {"call": self.calls[-2], "claims": ["data.entities"]}}
        elif "check" in step:
            self.left_out.append(step["check"])
        form: dict[str, Any] = {
            "evaluate": step["tool"],
            "session": session,
            "call": self.calls[-1],
            "arguments": step["args"],
            "as": self._runtime,
            "expect": expect,
        }
        if len(agents) > 1:
            yield from self._chain(session, agents)
            form["chain"] = self.chains[(session, *agents)]
        yield form | self._forged(step)

    def _forged(self, step: Mapping[str, Any]) -> dict[str, Any]:
        if "forge" not in step:
            return {}
        for pattern, kind in FORGED.items():
            found = re.fullmatch(pattern, step["forge"])
            if found is None:
                continue
            if not found.groups():
                return {"forge": kind}
            own = self.fixture["task"]["boundary"]
            more = boundary(own | {"limits": own["limits"] | {"per_action": found[1], "total": found[1]}})
            return {"forge": kind, "forged": {"boundary": more}}
        raise UnknownFormError(f"forge: {step['forge']}")


def _refused(step: Mapping[str, Any]) -> bool:
    return bool(step.get("expect") == "refused")


def scenario(fixture: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A case as a scenario, and what of it was left out. Raises `UnknownFormError`.

    `fixture` is the common one; a case may bring its own.
    """
    own = patched(case.get("fixture", fixture), case.get("patch", {}))
    _known(own, "fixture")
    _known(own["task"], "task")
    if not isinstance(own["task"].get("template", ""), str):
        raise UnknownFormError("task.template")
    task, limits = own["task"], own["task"]["boundary"]["limits"]
    reader = Reader(fixture=own)
    steps = list(reader.steps(case["steps"]))
    return {
        "name": f"{case['id']} {case['title']}",
        "tenant": own["tenant"],
        "fixture": {
            "settings": settings(own["settings"], limits["currency"]),
            "agents": [{"agent": agent, "trust": trust} for agent, trust in own["agents"].items()],
            "tools": tools(own),
            "entities": [
                {"type": kind, "id": name, "attributes": attributes}
                for kind, known in own["entities"].items()
                for name, attributes in known.items()
            ],
            "sessions": {
                "main": {
                    "task": {"id": task["id"], "prompt": task["prompt"]},
                    "principal": task["principal"],
                    "agent": task["root_agent"],
                    "boundary": boundary(task["boundary"]),
                    "expires_in": f"{task['expires']}s",
                }
            },
        },
        "steps": steps,
    }, reader.left_out
