"""A tenant's settings: thresholds that rules read as `input.settings`.

What a tenant does not set, the bundle's defaults decide (`data.placet.defaults`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from typing import Any, TypeVar

from pdp.authority.boundary import parse_boundary, parse_on_exceed
from pdp.authority.counters import MAX_WINDOW
from pdp.errors import InvalidFieldError
from pdp.model import JSON, MAX_CHAIN_DEPTH, Boundary, Budget, BudgetScope, Ceiling, ToolEffect
from pdp.money import AmountError, has_more_decimals, major_to_minor, minor_digits, read_number
from pdp.names import name, unique
from placet.canonical import CanonicalError, parse_object

DEFAULT_ALLOW_TTL = 60
_MAX_ALLOW_TTL = 3_600
DEFAULT_CHAIN_DEPTH = 4
_NAMES = frozenset(
    {
        "trust_floor",
        "large_amount",
        "dual_control_amount",
        "po_tolerance",
        "variance_block_factor",
        "order_used",
        "velocity",
        "allow_ttl_seconds",
        "boundary_template",
        "budgets",
        "counterparty_session_total",
        "max_chain_depth",
        "distinct_runtimes",
        "session_proof",
    }
)
_MAX_BUDGETS = 16
_PPM_DECIMALS = 6
# The policy engine compares numbers of 64 binary digits, which are 19 decimal ones.
_SCORE_DECIMALS = 18
# So many settings objects are kept with what was read of them.
_KEPT = 256


_T = TypeVar("_T")


def _once(read: Callable[[Mapping[str, JSON]], _T]) -> Callable[[Mapping[str, JSON]], _T]:
    """Wrap a function of settings so that it reads the same object once.

    Facts hold one object for equal settings, and nobody changes it.
    """
    kept: OrderedDict[int, tuple[Mapping[str, JSON], _T]] = OrderedDict()

    @wraps(read)
    def once(settings: Mapping[str, JSON]) -> _T:
        found = kept.get(id(settings))
        if found is not None and found[0] is settings:
            return found[1]
        value = read(settings)
        # Holding the object keeps its id from being another's.
        kept[id(settings)] = (settings, value)
        if len(kept) > _KEPT:
            kept.popitem(last=False)
        return value

    return once


def parse_settings(text: bytes) -> dict[str, JSON]:
    """Check settings as PutTenant receives them. Raises `InvalidFieldError` with the path."""
    try:
        settings = parse_object(text, field="settings")
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    # What was written before is read as it is.
    for effect, floor in policy_settings(settings).get("trust_floor", {}).items():
        score(floor, f"settings.trust_floor.{effect}")
    return settings


@_once
def policy_settings(settings: Mapping[str, JSON]) -> dict[str, Any]:
    """Return the form that rules read: amounts in integer minor units.

    Raises `InvalidFieldError` with the path of what is wrong.
    """
    for member in settings:
        if member not in _NAMES:
            raise InvalidFieldError(f"settings.{member}", f"is unknown; known: {', '.join(sorted(_NAMES))}")
    result: dict[str, Any] = {}
    if "trust_floor" in settings:
        result["trust_floor"] = _trust_floor(settings["trust_floor"])
    if "large_amount" in settings:
        result["large_amount"] = _amounts(settings["large_amount"], "large_amount")
    if "dual_control_amount" in settings:
        result["dual_control_amount"] = _amounts(settings["dual_control_amount"], "dual_control_amount")
    if "po_tolerance" in settings:
        result["po_tolerance"] = _ratio(settings["po_tolerance"], "po_tolerance", 0, 10)
    if "variance_block_factor" in settings:
        result["variance_block_factor"] = _ratio(
            settings["variance_block_factor"], "variance_block_factor", 1, 1000
        )
    if "order_used" in settings:
        result["order_used"] = _order_used(settings["order_used"])
    if "velocity" in settings:
        result["velocity"] = _velocity(settings["velocity"])
    if "distinct_runtimes" in settings:
        result["distinct_runtimes"] = _flag(settings["distinct_runtimes"], "distinct_runtimes")
    allow_ttl(settings)
    max_chain_depth(settings)
    takes_id_as_proof(settings)
    boundary_template(settings)
    budgets(settings)
    counterparty_session_total(settings)
    return result


def boundary_template(settings: Mapping[str, JSON]) -> Boundary | None:
    """Return the boundary that every new session's actions must lie within, beside its own; None: any."""
    if "boundary_template" not in settings:
        return None
    return parse_boundary(settings["boundary_template"], "settings.boundary_template")


def allow_ttl(settings: Mapping[str, JSON]) -> int:
    """Return for how many seconds an answer stands."""
    return _whole(
        settings.get("allow_ttl_seconds", DEFAULT_ALLOW_TTL), "allow_ttl_seconds", 1, _MAX_ALLOW_TTL
    )


def max_chain_depth(settings: Mapping[str, JSON]) -> int:
    """Return how many delegations may lie between the session's own agent and the one that acts."""
    return _whole(settings.get("max_chain_depth", DEFAULT_CHAIN_DEPTH), "max_chain_depth", 1, MAX_CHAIN_DEPTH)


def takes_id_as_proof(settings: Mapping[str, JSON]) -> bool:
    """Return whether who speaks for a session's own agent needs to know no more than the session's id."""
    value = settings.get("session_proof", "token")
    if value not in ("token", "id"):
        raise InvalidFieldError("settings.session_proof", "must be token or id")
    return value == "id"


@_once
def budgets(settings: Mapping[str, JSON]) -> tuple[Budget, ...]:
    """Return what the tenant's payments may come to, beside what each task may spend."""
    given = settings.get("budgets", ())
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidFieldError("settings.budgets", "must be a list")
    if len(given) > _MAX_BUDGETS:
        raise InvalidFieldError("settings.budgets", f"has more than {_MAX_BUDGETS} entries")
    result = tuple(_budget(item, f"budgets[{index}]") for index, item in enumerate(given))
    unique([budget.name for budget in result], "settings.budgets", "name")
    return result


@_once
def counterparty_session_total(settings: Mapping[str, JSON]) -> Mapping[str, Ceiling] | None:
    """Return what a session may pay to one counterparty, by currency; None: the tenant limits nothing."""
    if "counterparty_session_total" not in settings:
        return None
    totals = {}
    for currency, limit in _object(
        settings["counterparty_session_total"], "counterparty_session_total"
    ).items():
        path = f"counterparty_session_total.{currency}"
        members = _object(limit, path)
        if set(members) != {"max", "on_exceed"}:
            raise InvalidFieldError(f"settings.{path}", "needs exactly max and on_exceed")
        totals[currency] = Ceiling(
            maximum=_minor(members["max"], currency, path),
            on_exceed=parse_on_exceed(members["on_exceed"], f"settings.{path}.on_exceed"),
        )
    return totals


def _budget(value: JSON, path: str) -> Budget:
    members = _object(value, path)
    needed, optional = {"name", "scope", "currency", "max", "on_exceed"}, {"window_seconds"}
    if not needed <= set(members) <= needed | optional:
        raise InvalidFieldError(
            f"settings.{path}", "needs name, scope, currency, max, on_exceed, and at most window_seconds"
        )
    scope, currency = members["scope"], members["currency"]
    if not isinstance(scope, str) or scope not in set(BudgetScope):
        raise InvalidFieldError(f"settings.{path}.scope", f"must be one of {', '.join(BudgetScope)}")
    label = members["name"]
    if not isinstance(label, str) or not isinstance(currency, str):
        raise InvalidFieldError(f"settings.{path}", "name and currency must be text")
    return Budget(
        name=name(label, f"settings.{path}.name"),
        scope=BudgetScope(scope),
        currency=currency,
        maximum=_minor(members["max"], currency, path),
        window_seconds=_whole(members["window_seconds"], f"{path}.window_seconds", 1, MAX_WINDOW)
        if "window_seconds" in members
        else None,
        on_exceed=parse_on_exceed(members["on_exceed"], f"settings.{path}.on_exceed"),
    )


def _minor(value: JSON, currency: str, path: str) -> int:
    digits = minor_digits(currency)
    if digits is None:
        raise InvalidFieldError(f"settings.{path}", f"{currency} is no ISO 4217 currency")
    try:
        return major_to_minor(read_number(value), digits)
    except (ValueError, AmountError) as exc:
        raise InvalidFieldError(
            f"settings.{path}.max", f"must be an amount of {digits} decimals at most"
        ) from exc


_Score = TypeVar("_Score", int, Decimal)


def score(number: _Score, path: str) -> _Score:
    """Return a trust score or its floor, as exact as it came.

    Raises `InvalidFieldError` for one with more decimals than the policy engine tells apart.
    """
    if has_more_decimals(number, _SCORE_DECIMALS):
        raise InvalidFieldError(path, f"has more than {_SCORE_DECIMALS} decimals")
    return number


def _trust_floor(value: JSON) -> dict[str, Any]:
    floors: dict[str, Any] = {}
    for effect, floor in _object(value, "trust_floor").items():
        if effect not in set(ToolEffect):
            raise InvalidFieldError(f"settings.trust_floor.{effect}", "is no effect of a tool")
        if isinstance(floor, bool) or not isinstance(floor, int | Decimal) or not 0 <= floor <= 1:
            raise InvalidFieldError(f"settings.trust_floor.{effect}", "must be a number from 0 to 1")
        floors[effect] = floor
    return floors


def _amounts(value: JSON, name: str) -> dict[str, Any]:
    thresholds: dict[str, Any] = {}
    for currency, amount in _object(value, name).items():
        path = f"settings.{name}.{currency}"
        digits = minor_digits(currency)
        if digits is None:
            raise InvalidFieldError(path, "is no ISO 4217 currency")
        try:
            thresholds[currency] = {"minor": major_to_minor(read_number(amount), digits)}
        except (ValueError, AmountError) as exc:
            raise InvalidFieldError(path, f"must be an amount of {digits} decimals at most") from exc
    return thresholds


def _ratio(value: JSON, name: str, low: int, high: int) -> dict[str, int]:
    """Return a number in whole millionths, in which rules compare exactly."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not low <= value <= high:
        raise InvalidFieldError(f"settings.{name}", f"must be a number from {low} to {high}")
    if has_more_decimals(value, _PPM_DECIMALS):
        raise InvalidFieldError(f"settings.{name}", f"has more than {_PPM_DECIMALS} decimals")
    return {"ppm": int(Decimal(value).scaleb(_PPM_DECIMALS))}


def _order_used(value: JSON) -> dict[str, str]:
    members = _object(value, "order_used")
    if set(members) != {"on_exceed"}:
        raise InvalidFieldError("settings.order_used", "needs exactly on_exceed")
    return {"on_exceed": parse_on_exceed(members["on_exceed"], "settings.order_used.on_exceed").value}


def _velocity(value: JSON) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for limited, limit in _object(value, "velocity").items():
        path = f"velocity.{limited}"
        if limited != "payments":
            raise InvalidFieldError(f"settings.{path}", "is unknown; known: payments")
        members = _object(limit, path)
        if set(members) != {"max", "window_seconds", "on_exceed"}:
            raise InvalidFieldError(f"settings.{path}", "needs exactly max, window_seconds and on_exceed")
        on_exceed = parse_on_exceed(members["on_exceed"], f"settings.{path}.on_exceed")
        limits[limited] = {
            "max": _whole(members["max"], f"{path}.max", 0, 1_000_000),
            "window_seconds": _whole(members["window_seconds"], f"{path}.window_seconds", 1, MAX_WINDOW),
            "on_exceed": on_exceed.value,
        }
    return limits


def _flag(value: JSON, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidFieldError(f"settings.{path}", "must be true or false")
    return value


def _object(value: JSON, path: str) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping):
        raise InvalidFieldError(f"settings.{path}", "must be an object")
    return value


def _whole(value: JSON, path: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidFieldError(f"settings.{path}", f"must be a whole number from {low} to {high}")
    return value
