"""What a write would change: PreviewWrite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from placet._calls import entities, registry
from placet._calls.call import Call, reader
from placet._calls.registry import read_replacement
from placet.errors import invalid
from placet.model import Preview
from placet.v1 import admin_service_pb2 as messages


def preview_write(write: str, *args: Any, **kwargs: Any) -> Call[Preview]:
    """Return the call that asks what another would change; `args` and `kwargs` are that method's."""
    if write not in _WRITES:
        raise invalid("write", f"{write!r} is not one of {', '.join(sorted(_WRITES))}")
    try:
        request = _WRITES[write](*args, **kwargs).request
    except TypeError as exc:
        raise invalid("write", f"{write}: {exc}") from exc

    def read(answer: messages.PreviewWriteResponse) -> Preview:
        return Preview(
            replacements=tuple(read_replacement(item) for item in answer.differences), more=answer.more
        )

    return Call(
        request=messages.PreviewWriteRequest(**{write: request}),  # type: ignore[arg-type]
        read=reader(messages.PreviewWriteResponse, read),
    )


def _put_tenant(settings: Mapping[str, Any] | bytes, *, tenant: str = "", reason: str = "") -> Call[int]:
    return registry.put_tenant(settings, tenant, reason)


def _patch_tenant(patch: Mapping[str, Any] | bytes, *, reason: str = "") -> Call[Any]:
    return registry.patch_tenant(patch, reason)


def _patch_entity(
    name: str,
    set: Mapping[str, Any] | None = None,
    *,
    unset: Iterable[str] = (),
    posted: Mapping[str, Any] | None = None,
    reason: str = "",
) -> Call[Any]:
    return entities.patch_entity(name, set or {}, unset, reason, posted)


# The writes that can be previewed, by the names of the client's methods, and with their arguments.
_WRITES: Mapping[str, Callable[..., Call[Any]]] = {
    "put_tenant": _put_tenant,
    "patch_tenant": _patch_tenant,
    "put_agents": registry.put_agents,
    "put_tools": registry.put_tools,
    "roll_back_tools": registry.roll_back_tools,
    "put_signals": registry.put_signals,
    "put_issuer_keys": registry.put_issuer_keys,
    "put_entities": entities.put_entities,
    "patch_entity": _patch_entity,
    "delete_entities": entities.delete_entities,
}
