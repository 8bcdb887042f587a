"""Hints: what the last action like this one rested on, so that one read is enough for the next.

A hint says what to read, and never what to judge (`resolve_on_facts`). A wrong one costs a second read.
"""

from __future__ import annotations

from collections import OrderedDict

from pdp.decision.resolved_action import NO_INPUTS, ResolutionInputs
from pdp.model import EvaluationRequest

_MAX_HINTS = 4096

_Key = tuple[str, str, str, str, str]


class Hints:
    """The inputs of the latest actions, by caller, session, leaf grant and tool.

    Bounded: beyond 4,096 the one that was kept longest ago is forgotten.
    """

    def __init__(self, most: int = _MAX_HINTS) -> None:
        self._most = most
        self._kept: OrderedDict[_Key, ResolutionInputs] = OrderedDict()

    def get(self, request: EvaluationRequest) -> ResolutionInputs:
        """Return the inputs of the last action like this one; those of nothing if there was none."""
        return self._kept.get(_key(request), NO_INPUTS)

    def keep(self, request: EvaluationRequest, inputs: ResolutionInputs) -> None:
        """Keep what the action turned out to rest on."""
        key = _key(request)
        self._kept[key] = inputs
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _key(request: EvaluationRequest) -> _Key:
    caller = request.caller
    # The caller is part of it: whoever else names the session must not spoil its owner's hints.
    return caller.tenant, caller.subject, request.session_id, request.leaf_grant_hash, request.action.tool
