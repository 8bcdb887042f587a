"""Registrations, judged before they are written: as `placet tool lint` judges them, and by the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson

from pdp.action.derivation import is_pattern, schema_problem
from pdp.action.secrets import find_secret_faults
from pdp.errors import InvalidFieldError
from pdp.model import EntityRef, Tool
from pdp.money import minor_digits
from placet._lint import Finding, Severity, lint_each, written
from placet._lint.fields import field_of
from placet._lint.findings import Path
from placet._lint.schemas import subschemas

# What a secret is used for, by how the field begins.
_SECRETS = (
    ("secret_arguments", "secret.undeclared"),
    ("argument_roles", "secret.undeclared"),
    ("resource", "secret.in_id"),
    ("entities", "secret.in_id"),
    ("business_key", "secret.in_key"),
    ("amount", "secret.is_amount"),
)

# So many patterns of a tool are named, and so many characters of each are shown.
_MAX_PATTERNS = 50
_MAX_SHOWN = 80


class Judged(NamedTuple):
    """A finding, with the path in the request of what it is about: `tools[0].amount.unit`."""

    finding: Finding
    field: str

    @property
    def is_error(self) -> bool:
        return self.finding.severity is Severity.ERROR


def lint_registrations(tools: Sequence[Tool], *, registered: Iterable[Tool] = ()) -> Iterator[list[Judged]]:
    """Yield what is wrong or doubtful in one registration after the other.

    They are judged as registered together; `registered` are those that stand already, which count where none
    of `tools` has their name. Between two of them the caller may let others work: one takes milliseconds.
    """
    forms = [tool_form(tool) for tool in tools]
    every = lint_each(forms, is_currency=_is_currency, registered=map(tool_form, registered))
    for index, (tool, form, found) in enumerate(zip(tools, forms, every, strict=True)):
        yield [*_by_secrets(tool, index), *_by_form(form, found), *_by_engine(tool, index, found)]


def refuse_errors(found: Iterable[Judged]) -> list[Judged]:
    """Return what is doubtful. Raises `InvalidFieldError` that names every field which is wrong."""
    warnings, wrong = [], []
    for item in found:
        if item.is_error:
            wrong.append((item.field, item.finding.message))
        else:
            warnings.append(item)
    if wrong:
        (field, reason), *more = wrong
        raise InvalidFieldError(field, reason, more=more)
    return warnings


def _by_form(form: Mapping[str, Any], found: Iterable[Finding]) -> Iterator[Judged]:
    for finding in found:
        # Patterns of names, which only the engine can match, may declare a secret: see `_by_secrets`.
        if finding.severity is Severity.WARNING or not finding.code.startswith("secret."):
            yield Judged(finding, f"tools[{finding.index}].{field_of(form, finding.path)}".rstrip("."))


def _by_engine(tool: Tool, index: int, found: Iterable[Finding]) -> Iterator[Judged]:
    """Yield what the engine that judges arguments says of their schema, unless that is known to be wrong."""
    if any(finding.code == "schema.invalid" for finding in found):
        return
    problem = schema_problem(tool.arguments_schema)
    if problem is None:
        return
    path, reason = problem
    patterns = list(islice(_bad_patterns(orjson.loads(tool.arguments_schema)), _MAX_PATTERNS))
    for at, pattern in patterns:
        shown = pattern if len(pattern) <= _MAX_SHOWN else f"{pattern[:_MAX_SHOWN]}…"
        why = (
            f"{shown!r} is no regular expression that the engine can apply: it has no look-around, and "
            "bounds their size"
        )
        yield _judged(tool, index, "schema.invalid", written(("arguments_schema", *at)), why)
    if all(path != at for at, _ in patterns):
        yield _judged(tool, index, "schema.invalid", written(("arguments_schema", *path)), reason)


def _bad_patterns(schema: Any) -> Iterator[tuple[Path, str]]:
    for at, value in subschemas(schema):
        if not isinstance(value, dict):
            continue
        pattern = value.get("pattern")
        if isinstance(pattern, str) and not is_pattern(pattern):
            yield (*at, "pattern"), pattern
        by_pattern = value.get("patternProperties")
        for name in by_pattern if isinstance(by_pattern, dict) else ():
            if not is_pattern(name):
                yield (*at, "patternProperties", name), name


def _by_secrets(tool: Tool, index: int) -> Iterator[Judged]:
    for field, reason in find_secret_faults(tool):
        code = next((code for start, code in _SECRETS if field.startswith(start)), "secret.compared")
        yield _judged(tool, index, code, field, reason)


def _judged(tool: Tool, index: int, code: str, field: str, reason: str) -> Judged:
    finding = Finding(code=code, tool=tool.name, index=index, path=(), message=reason)
    return Judged(finding, f"tools[{index}].{field}")


def tool_form(tool: Tool) -> Mapping[str, Any]:
    """Return a registration as the plain values of a file of tools (docs/tools.md)."""
    form: dict[str, Any] = {
        "name": tool.name,
        "effect": tool.effect.value,
        "reversible": tool.reversible,
        "resource": tool.resource,
        "description": tool.description,
        "secret_arguments": [
            name for name in tool.secret_arguments if tool.argument_roles.get(name) != "secret"
        ],
        "argument_roles": {name: role.value for name, role in tool.argument_roles.items()},
        "normalise": {rule.argument: [step.value for step in rule.steps] for rule in tool.normalise},
        "entities": [_entity_form(ref) for ref in tool.entities],
        "prerequisites": [
            {"tool": rule.tool, "same": list(rule.same), "required": rule.required}
            for rule in tool.prerequisites
        ],
        "glob": tool.glob,
        "audience": tool.audience,
    }
    if tool.arguments_schema:
        form["arguments_schema"] = orjson.loads(tool.arguments_schema)
    if tool.amount is not None:
        form["amount"] = {
            "argument": tool.amount.argument,
            "unit": tool.amount.unit.value if tool.amount.unit is not None else "",
            "currency_argument": tool.amount.currency_argument,
            "currency_code": tool.amount.currency_code,
            "allow_zero": tool.amount.allow_zero,
        }
    if tool.business_key is not None:
        form["business_key"] = {
            "name": tool.business_key.name,
            "arguments": list(tool.business_key.arguments),
        }
    if tool.output is not None:
        form["output"] = {"fields": {field.name: field.trust.value for field in tool.output.fields}}
    if tool.redeem_required:
        form["redeem"] = "required"
    return form


def _entity_form(ref: EntityRef) -> Mapping[str, Any]:
    form: dict[str, Any] = {
        "name": ref.name,
        "type": ref.type,
        "role": ref.role.value,
        "amount_attribute": ref.amount_attribute,
        "currency_attribute": ref.currency_attribute,
        "total_attribute": ref.total_attribute,
        "open_attribute": ref.open_attribute,
        "measure": ref.measure,
        "posted": "linked" if ref.posted_linked else "",
    }
    if ref.id is not None:
        form["id"] = ref.id
    if ref.via is not None:
        form["via"] = {"entity": ref.via.entity, "attribute": ref.via.attribute}
    if ref.must_match is not None:
        form["must_match"] = {"entity": ref.must_match.entity, "attribute": ref.must_match.attribute}
    return form


def _is_currency(code: str) -> bool:
    return minor_digits(code) is not None
