"""OPA's answers, checked for shape. An answer that is odd in any part is no verdict at all."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, NoReturn

import orjson

from pdp.errors import PolicyUnavailableError
from pdp.model import JSON, Effect, Figures, Obligation, PolicyRevision, Reason, Remedy, Verdict
from pdp.money import minor_digits, minor_to_major

_CODE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+", re.ASCII)
_MAX_CODE = 128
_MAX_TEXT = 2048
_MAX_REASONS = 256
_MAX_RETRY_SECONDS = 366 * 86_400
_EFFECTS = {effect.value: effect for effect in Effect}
_VERDICT_KEYS = frozenset({"effect", "reasons", "obligations", "retry_after_seconds"})
_REASON_KEYS = frozenset({"code", "effect", "message", "at", "remediation", "remedy", "findings"})
_NUMBERS = ("used", "added", "limit", "open", "unposted")
_FINDING_KEYS = frozenset(
    {"code", "of", "at", "hop", "unit", "window_seconds", "retry_after_seconds", *_NUMBERS}
)
# A reason has no more of them: a rule finds one thing in each boundary and limit at most.
_MAX_FINDINGS = 64
_REMEDIES = {remedy.value: remedy for remedy in Remedy}
_OBLIGATION_KEYS = frozenset({"id", "properties"})


def single_verdict(body: bytes, *, bundle: str) -> Verdict:
    """Read the answer to one document. Raises `PolicyUnavailableError`."""
    result, policy = _answer(body, bundle)
    return _verdict(result, policy)


def batch_verdicts(
    body: bytes, *, bundle: str, ids: Collection[str]
) -> dict[str, Verdict | PolicyUnavailableError]:
    """Read the answer to a batch: for every id its verdict, or why it has none.

    Raises `PolicyUnavailableError` if the answer is not for exactly these ids.
    """
    result, policy = _answer(body, bundle)
    if not isinstance(result, dict):
        _malformed("the batch is not an object")
    if missing := ids - result.keys():
        raise PolicyUnavailableError("missing_id", f"{len(missing)} of {len(ids)}")
    if len(result) != len(ids):
        _malformed("ids that were not asked")
    verdicts: dict[str, Verdict | PolicyUnavailableError] = {}
    for key in ids:
        try:
            verdicts[key] = _verdict(result[key], policy)
        except PolicyUnavailableError as exc:
            verdicts[key] = exc
    return verdicts


def serving_policy(body: bytes, *, bundle: str) -> PolicyRevision:
    """Read which policy answered. Raises `PolicyUnavailableError`."""
    _, policy = _answer(body, bundle)
    return policy


def _answer(body: bytes, bundle: str) -> tuple[Any, PolicyRevision]:
    """Return the result and the revision of the policy that gave it."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise PolicyUnavailableError("malformed", f"not JSON: {exc}") from exc
    if not isinstance(answer, dict):
        _malformed("the answer is not an object")
    if "result" not in answer:
        # OPA answers 200 without a result when the decision is undefined.
        raise PolicyUnavailableError("no_result")
    revision: Any = answer
    for step in ("provenance", "bundles", bundle, "revision"):
        revision = revision.get(step) if isinstance(revision, dict) else None
    if not isinstance(revision, str) or not revision:
        raise PolicyUnavailableError("no_revision")
    return answer["result"], PolicyRevision(bundle=bundle, revision=revision)


def _verdict(result: Any, policy: PolicyRevision) -> Verdict:
    if not isinstance(result, dict) or not result.keys() <= _VERDICT_KEYS:
        _malformed("a verdict of another shape")
    effect = _effect(result.get("effect"))
    reasons = result.get("reasons")
    if not isinstance(reasons, list) or len(reasons) > _MAX_REASONS:
        _malformed("reasons are not a list")
    if not reasons:
        raise PolicyUnavailableError("no_reasons")
    read = tuple(_reason(reason) for reason in reasons)
    if effect != _strongest(read):
        _malformed("the effect is not what the reasons say")
    obligations = result.get("obligations")
    if not isinstance(obligations, list):
        _malformed("obligations are not a list")
    return Verdict(
        effect=effect,
        reasons=read,
        policy=policy,
        obligations=tuple(_obligation(obligation) for obligation in obligations),
        retry_after=_retry_after(result, effect),
    )


def _reason(reason: Any) -> Reason:
    if not isinstance(reason, dict) or not reason.keys() <= _REASON_KEYS:
        _malformed("a reason of another shape")
    code = reason.get("code")
    if not isinstance(code, str) or len(code) > _MAX_CODE or not _CODE.fullmatch(code):
        _malformed("a reason without a code")
    remedy = reason.get("remedy")
    if remedy is not None and not (isinstance(remedy, str) and remedy in _REMEDIES):
        _malformed("a remedy that is none")
    findings = reason.get("findings", [])
    if not isinstance(findings, list) or len(findings) > _MAX_FINDINGS:
        _malformed("findings are not a list")
    # The outermost boundary comes first, then the hops as they follow each other.
    figures = sorted((_figures(finding) for finding in findings), key=lambda item: (item.at, item.of))
    return Reason(
        code=code,
        effect=_effect(reason.get("effect")),
        message=_text(reason, "message"),
        # A rule that finds something in several places is about the first of them.
        at=_text(reason, "at") or next((item.at or item.of for item in figures), ""),
        remediation=_text(reason, "remediation"),
        remedy=None if remedy is None else _REMEDIES[remedy],
        figures=tuple(item for item in figures if any(getattr(item, name) for name in _NUMBERS)),
    )


def _figures(finding: Any) -> Figures:
    """Return what a rule found: a place, and what was measured there. Amounts come in minor units."""
    if not isinstance(finding, dict) or not finding.keys() <= _FINDING_KEYS:
        _malformed("a finding of another shape")
    unit = _text(finding, "unit")
    digits = minor_digits(unit)
    hop = finding.get("hop")
    if hop is not None and (isinstance(hop, bool) or not isinstance(hop, int) or hop < 0):
        _malformed("a hop that is none")
    return Figures(
        of=_text(finding, "of"),
        at=_text(finding, "at") if hop is None else f"chain[{hop}]",
        unit=unit,
        **{name: _number(finding, name, digits or 0) for name in _NUMBERS},
        window=_span(finding, "window_seconds"),
        retry_after=_span(finding, "retry_after_seconds"),
    )


def _number(finding: Mapping[str, Any], name: str, digits: int) -> str:
    """Return a number of a finding as text; empty if it is not there."""
    number = finding.get(name)
    if number is None:
        return ""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        _malformed(f"{name} is no whole number")
    return minor_to_major(number, digits)


def _span(source: Mapping[str, Any], key: str) -> timedelta | None:
    if key not in source:
        return None
    seconds = source[key]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        _malformed(key)
    if not math.isfinite(seconds) or not 0 <= seconds <= _MAX_RETRY_SECONDS:
        _malformed(f"{key} is out of range")
    return timedelta(seconds=seconds)


def _obligation(obligation: Any) -> Obligation:
    if not isinstance(obligation, dict) or not obligation.keys() <= _OBLIGATION_KEYS:
        _malformed("an obligation of another shape")
    name = _text(obligation, "id")
    properties = obligation.get("properties", {})
    if not name or not isinstance(properties, dict):
        _malformed("an obligation of another shape")
    return Obligation(id=name, properties={key: _json(value) for key, value in properties.items()})


def _effect(value: Any) -> Effect:
    effect = _EFFECTS.get(value) if isinstance(value, str) else None
    if effect is None:
        raise PolicyUnavailableError("unknown_effect")
    return effect


def _strongest(reasons: Collection[Reason]) -> Effect:
    effects = {reason.effect for reason in reasons}
    return next(effect for effect in (Effect.BLOCK, Effect.ESCALATE, Effect.ALLOW) if effect in effects)


def _retry_after(result: Mapping[str, Any], effect: Effect) -> timedelta | None:
    """Return when to ask again; None if policy does not say. Only a block may say so."""
    if "retry_after_seconds" not in result:
        return None
    if effect is not Effect.BLOCK:
        _malformed("retry_after_seconds")
    return _span(result, "retry_after_seconds")


def _text(source: Mapping[str, Any], key: str) -> str:
    text = source.get(key, "")
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        _malformed(f"{key} is not a short text")
    return text


def _json(value: Any) -> JSON:
    """Return the value with decimals in place of binary floats."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    checked: JSON = value
    return checked


def _malformed(detail: str) -> NoReturn:
    raise PolicyUnavailableError("malformed", detail)
