"""Which tools a session's agent may still use: sound in one direction.

A tool that is not listed is blocked whatever its arguments; one that is listed may be blocked all
the same. So a tool is left out only for a reason that holds for all arguments, and for which the
shipped rules block: the session's state, and its boundaries.
"""

from __future__ import annotations

from pdp.model import Boundary, SessionState, Tool, ToolEffect, ToolOutline


def may_be_allowed(tool: Tool | ToolOutline, boundaries: tuple[Boundary, ...], state: SessionState) -> bool:
    """Whether the tool could be allowed with some arguments, within all of `boundaries`."""
    return bool(boundaries) and all(
        _named(tool, boundary, state)
        and _resource_possible(tool, boundary)
        and _amount_possible(tool, boundary)
        for boundary in boundaries
    )


def _named(tool: Tool | ToolOutline, boundary: Boundary, state: SessionState) -> bool:
    match state:
        case SessionState.OPEN:
            return tool.name in boundary.tools or tool.effect in boundary.effects
        case SessionState.COMPLETED:
            return tool.name in boundary.after_completion
        case _:
            return False


def _resource_possible(tool: Tool | ToolOutline, boundary: Boundary) -> bool:
    kind = tool.resource.partition(":")[0]
    return any(rule.type == kind for rule in boundary.resources)


def _amount_possible(tool: Tool | ToolOutline, boundary: Boundary) -> bool:
    if tool.amount is None:
        # A payment without an amount is blocked.
        return tool.effect is not ToolEffect.PAY
    if tool.amount.unit is None:
        return False
    currencies = {limit.currency for limit in boundary.amounts}
    code = tool.amount.currency_code
    return bool(currencies) if code is None else code in currencies
