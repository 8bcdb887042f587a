"""JSON Merge Patch (RFC 7396)."""

from __future__ import annotations

from collections.abc import Mapping

from pdp.model import JSON


def merge(target: JSON, patch: JSON) -> JSON:
    """Return `target` with `patch` merged in: null removes a member, an object merges, all else replaces.

    As section 2 of the RFC has it. Neither argument is changed.
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result
