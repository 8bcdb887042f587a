"""What is expected of a step, and how its outcome differs from that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from placet._calls.plain import DECISION_NAMES
from placet.errors import PlacetError
from placet.model import Session
from placet.scenario.model import Json, Name, Part, Text
from placet.scenario.outcome import Outcome

Effect = Literal["allow", "block", "escalate"]
SESSION_NAMES = frozenset(item.name for item in fields(Session))
_ABSENT = object()


def _path(path: str) -> str:
    root, _, rest = path.partition(".")
    known = {"decision": DECISION_NAMES, "session": SESSION_NAMES}
    if root not in known:
        raise ValueError("starts with neither decision nor session")
    if rest.partition(".")[0] not in known[root]:
        raise ValueError(f"is unknown; a {root} has {', '.join(sorted(known[root]))}")
    return path


def _session_path(path: str) -> str:
    if not path.startswith("session."):
        raise ValueError("must start with session: this step makes no decision")
    return _path(path)


class ExpectError(Part):
    """A call that must fail. At least one of the fields; those that are given must be so."""

    reason: Text | None = None
    """The server's stable reason, for example SESSION_OVER."""
    field: Text | None = None
    """The field that is refused, for example boundary.amounts."""
    code: Text | None = None
    """The status, for example ALREADY_EXISTS."""

    @model_validator(mode="after")
    def _some(self) -> ExpectError:
        if not (self.reason or self.field or self.code):
            raise ValueError("says nothing; give reason, field or code")
        return self

    def differences(self, error: PlacetError) -> Iterator[str]:
        named = [item.field for item in error.violations]
        code = error.code.name if error.code is not None else ""
        if self.reason and self.reason != error.reason:
            yield f"error.reason: expected {self.reason}, is {error.reason or 'none'}"
        if self.field and self.field not in named:
            yield f"error.field: expected {self.field}, is {', '.join(named) or 'none'}"
        if self.code and self.code != code:
            yield f"error.code: expected {self.code}, is {code or 'none'}"


class Expect(Part):
    """What is expected of a step that only succeeds or fails."""

    error: ExpectError | None = None

    def differences(self, outcome: Outcome) -> Iterator[str]:
        """Yield each difference from what is expected, worded for people."""
        if self.error is None:
            if outcome.error is not None:
                yield f"expected no error, got {describe_error(outcome.error)}"
                return
            yield from self.answer_differences(outcome)
        elif outcome.error is None:
            yield f"expected an error ({_list_fields(self.error)}), got an answer"
        else:
            for difference in self.error.differences(outcome.error):
                yield f"{difference} ({outcome.error})"

    def answer_differences(self, outcome: Outcome) -> Iterator[str]:
        yield from ()


class ExpectSession(Expect):
    """What is expected of a step that answers with a session."""

    fields: dict[Annotated[str, AfterValidator(_session_path)], Json] = Field(default_factory=dict)
    """Dotted path = value, for example session.state: closed."""

    def answer_differences(self, outcome: Outcome) -> Iterator[str]:
        yield from _find_differences(self.fields, outcome.values)


class ExpectHold(Expect):
    """What is expected of a step that says what became of an allow."""

    hold: Literal["reserved", "committed", "unresolved", "released"] | None = None
    """What the allow holds then of its limits and its business key."""
    conflict: bool | None = None
    """Whether an earlier report says otherwise, and counts."""

    def answer_differences(self, outcome: Outcome) -> Iterator[str]:
        got = outcome.values["hold"]
        if self.hold and self.hold != got:
            yield f"hold: expected {self.hold}, is {got}"
        conflict = outcome.values["conflict"]
        if self.conflict is not None and self.conflict != conflict:
            yield f"conflict: expected {self.conflict}, is {conflict}"


class ExpectDifference(Part):
    """Claims in which the receipt differs from that of an earlier call."""

    call: Name
    claims: Annotated[list[Text], Field(min_length=1)]
    """Dotted paths, for example data.entities. Each must be in both, with other values."""

    def differences(self, outcome: Outcome) -> Iterator[str]:
        for path in self.claims:
            before, now = _value_at(outcome.earlier_claims, path), _value_at(outcome.claims, path)
            if before is _ABSENT or now is _ABSENT:
                yield f"receipt.claims.{path}: is absent here or in that of {self.call}"
            elif _equal(before, now):
                yield f"receipt.claims.{path}: expected another than in that of {self.call}, is {now!r}"


class ExpectReceipt(Part):
    verified: Literal[True] | None = None
    """Its signature is the PDP's, by the published keys; and it is for this answer."""
    tamper_evident: Literal[True] | None = None
    """It is refused when one byte of it is changed."""
    recorded: Literal[True] | None = None
    """The ledger has the same bytes."""
    same_as: Name | None = None
    """It is the receipt that an earlier call got."""
    differs_from: ExpectDifference | None = None
    claims: dict[str, Json] = Field(default_factory=dict)
    """Dotted path = value, for example act.tool: payments.create."""

    @property
    def needs_keys(self) -> bool:
        return bool(self.verified or self.tamper_evident)

    def differences(self, outcome: Outcome) -> Iterator[str]:
        for name in ("verified", "tamper_evident", "recorded"):
            if getattr(self, name) and (why := outcome.receipt_checks[name]):
                yield f"receipt.{name}: {why}"
        if self.same_as and outcome.receipt_checks["same_as"]:
            yield f"receipt.same_as: {outcome.receipt_checks['same_as']}"
        if self.claims:
            yield from _find_differences(self.claims, outcome.claims, "receipt.claims.")
        if self.differs_from is not None:
            yield from self.differs_from.differences(outcome)


class ExpectDecision(Expect):
    """What is expected of a step that answers with a decision."""

    effect: Effect | None = None
    codes: list[Text] | None = None
    """Codes that are among the reasons."""
    any_code: list[Text] | None = None
    """At least one of these codes is among the reasons."""
    exact_codes: list[Text] | None = None
    """The codes of the reasons, all of them, in any order."""
    fields: dict[Annotated[str, AfterValidator(_path)], Json] = Field(default_factory=dict)
    """Dotted path = value, for example decision.replayed: true, session.decisions.allow: 2."""
    receipt: ExpectReceipt | None = None

    @model_validator(mode="after")
    def _either(self) -> ExpectDecision:
        if self.error is not None and (
            self.effect
            or self.codes is not None
            or self.any_code is not None
            or self.exact_codes is not None
            or self.receipt
            or self.fields
        ):
            raise ValueError("has error and an answer; give one")
        return self

    @property
    def asks_session(self) -> bool:
        return any(path.startswith("session.") for path in self.fields)

    def answer_differences(self, outcome: Outcome) -> Iterator[str]:
        assert outcome.decision is not None
        got = [reason.code for reason in outcome.decision.reasons]
        if self.effect and self.effect != outcome.decision.effect:
            yield f"effect: expected {self.effect}, is {outcome.decision.effect} ({', '.join(got)})"
        if self.codes is not None and (missing := [code for code in self.codes if code not in got]):
            yield f"codes: {', '.join(missing)} missing among {', '.join(got) or 'none'}"
        if self.any_code is not None and not set(self.any_code) & set(got):
            yield f"any_code: none of {', '.join(self.any_code)} among {', '.join(got) or 'none'}"
        if self.exact_codes is not None and sorted(self.exact_codes) != sorted(got):
            yield f"exact_codes: expected {', '.join(sorted(self.exact_codes))}, is {', '.join(sorted(got))}"
        yield from _find_differences(self.fields, outcome.values)
        if self.receipt is not None:
            yield from self.receipt.differences(outcome)


class ExpectMany(Part):
    """What is expected of a step that runs many times."""

    counts: dict[Literal["allow", "block", "escalate", "ok", "error"], Annotated[int, Field(ge=0)]] | None = (
        None
    )
    """How many came out so; effects for decisions, ok for other calls. What is not named is 0."""
    distinct: Annotated[int, Field(ge=0)] | None = None
    """How many different decisions there are."""

    def differences(self, outcomes: list[Outcome]) -> Iterator[str]:
        got: dict[str, int] = {}
        for outcome in outcomes:
            got[outcome.answer] = got.get(outcome.answer, 0) + 1
        if self.counts is not None:
            wanted = {str(name): count for name, count in self.counts.items() if count}
            if wanted != got:
                yield f"counts: expected {_list_counts(wanted)}, is {_list_counts(got)}"
        elif failed := [outcome.error for outcome in outcomes if outcome.error is not None]:
            yield f"{len(failed)} of {len(outcomes)} failed, the first with {describe_error(failed[0])}"
        ids = {outcome.decision.decision_id for outcome in outcomes if outcome.decision is not None}
        if self.distinct is not None and len(ids) != self.distinct:
            yield f"distinct: expected {self.distinct} decisions, are {len(ids)}"
        if self.counts is not None and not self.counts.get("error"):
            errors = [outcome.error for outcome in outcomes if outcome.error is not None]
            if errors:
                yield f"the first error: {describe_error(errors[0])}"


def describe_error(error: PlacetError) -> str:
    code = error.code.name if error.code is not None else type(error).__name__
    return " ".join(part for part in (code, error.reason, f"({error})") if part)


def _list_fields(error: ExpectError) -> str:
    return ", ".join(f"{name} {value}" for name, value in error.given().items())


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _find_differences(wanted: dict[str, Any], values: Any, prefix: str = "") -> Iterator[str]:
    for path, value in wanted.items():
        got = _value_at(values, path)
        if got is _ABSENT:
            yield f"{prefix}{path}: expected {value!r}, is absent"
        elif not _equal(value, got):
            yield f"{prefix}{path}: expected {value!r}, is {got!r}"


def _value_at(values: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return _ABSENT
    return values


def _equal(wanted: Any, got: Any) -> bool:
    """Compare as JSON: true is not 1, and 0.8 is 0.8 as a float and as a Decimal."""
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, int | float | Decimal) and isinstance(got, int | float | Decimal):
        return Decimal(str(wanted)) == Decimal(str(got))
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(_equal(value, got[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(_equal, wanted, got))
    return bool(wanted == got)
