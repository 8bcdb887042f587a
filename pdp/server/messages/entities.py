"""Entities, as operators write them and read them back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pdp.errors import InvalidFieldError
from pdp.jsontext import arguments_json
from pdp.model import JSON, EntityName, EntityVersion, Posting
from pdp.money import decimal_text
from pdp.names import MAX_RESOURCE_ID, name, unique
from pdp.server.messages.attribution import attribution_message
from pdp.server.messages.fields import check_count, timestamp
from placet.canonical import CanonicalError, parse_object
from placet.v1 import entity_service_pb2 as messages

MAX_ATTRIBUTES = 16 * 1024
MAX_DEPTH = 8
MAX_POSTED = 1_000
_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """The attributes to set, and the names of those to remove."""

    set_: Mapping[str, JSON]
    unset: tuple[str, ...]
    # What the figures contain of decisions, beside what earlier writes said of others.
    posted: tuple[Posting, ...] = ()


def entities(message: messages.PutEntitiesRequest) -> dict[EntityName, Mapping[str, JSON]]:
    check_count(message.entities, "entities", least=1)
    result = {}
    for index, entity in enumerate(message.entities):
        path = f"entities[{index}]"
        named = entity_name(entity.name, f"{path}.name")
        if named in result:
            raise InvalidFieldError(f"{path}.name", "is listed twice")
        result[named] = _attributes(entity.attributes, f"{path}.attributes")
    return result


def postings(message: messages.PutEntitiesRequest) -> dict[EntityName, tuple[Posting, ...]]:
    """Return what the figures of each entity contain, of those whose figures contain anything."""
    result, left = {}, MAX_POSTED
    for index, entity in enumerate(message.entities):
        path = f"entities[{index}].posted"
        left -= len(entity.posted)
        if left < 0:
            raise InvalidFieldError(path, f"is beyond the {MAX_POSTED} decisions that a call may name")
        if entity.posted:
            result[entity_name(entity.name)] = _postings(entity.posted, path)
    return result


def names(message: messages.DeleteEntitiesRequest) -> list[EntityName]:
    check_count(message.names, "names", least=1)
    result = [entity_name(item, f"names[{index}]") for index, item in enumerate(message.names)]
    unique([str(item) for item in result], "names", "id")
    return result


def entity_name(message: messages.EntityName, path: str = "name") -> EntityName:
    if _TYPE.fullmatch(message.type) is None:
        raise InvalidFieldError(f"{path}.type", 'must be a type such as "vendor"')
    return EntityName(type=message.type, id=name(message.id, f"{path}.id", most=MAX_RESOURCE_ID))


def patch(message: messages.PatchEntityRequest) -> Patch:
    given = _attributes(message.set, "set") if message.set else {}
    unset = tuple(name(item, f"unset[{index}]") for index, item in enumerate(message.unset))
    unique(list(unset), "unset", "name")
    if len(message.posted) > MAX_POSTED:
        raise InvalidFieldError("posted", f"has {len(message.posted)} entries; at most {MAX_POSTED}")
    posted = _postings(message.posted, "posted")
    if not given and not unset and not posted:
        raise InvalidFieldError("set", "is required, or unset or posted: there is nothing to change")
    for index, item in enumerate(unset):
        if item in given:
            raise InvalidFieldError(f"unset[{index}]", "is set by the same call")
    return Patch(set_=given, unset=unset, posted=posted)


def check_attributes(attributes: Mapping[str, JSON]) -> None:
    """Raise `InvalidFieldError` for what a patch makes of an entity, if nobody could have put it so."""
    _attributes(arguments_json(attributes), "set")


def version_message(version: EntityVersion) -> messages.EntityVersion:
    return messages.EntityVersion(
        name=messages.EntityName(type=version.name.type, id=version.name.id),
        attributes=b"" if version.attributes is None else arguments_json(version.attributes),
        deleted=version.attributes is None,
        revision=version.revision,
        written_by=version.by.subject,
        by=attribution_message(version.by),
        written_at=timestamp(version.written_at),
        posted=[
            messages.Posting(decision_id=decision_id, amount=format(amount, "f"))
            for decision_id, amount in version.posted.items()
        ],
    )


def _postings(given: Sequence[messages.Posting], path: str) -> tuple[Posting, ...]:
    result = []
    for index, item in enumerate(given):
        at = f"{path}[{index}]"
        try:
            amount = decimal_text(item.amount)
        except ValueError as exc:
            raise InvalidFieldError(f"{at}.amount", str(exc)) from exc
        if amount.is_signed() and not amount.is_zero():
            raise InvalidFieldError(f"{at}.amount", "must not be negative")
        result.append(
            Posting(decision_id=name(item.decision_id, f"{at}.decision_id"), amount=amount, field=at)
        )
    unique([posting.decision_id for posting in result], path, "decision_id")
    return tuple(result)


def _attributes(text: bytes, path: str) -> Mapping[str, JSON]:
    if not text:
        raise InvalidFieldError(path, "is required: a JSON object, {} for none")
    try:
        attributes = parse_object(text, field=path, max_bytes=MAX_ATTRIBUTES, max_depth=MAX_DEPTH)
    except CanonicalError as exc:
        raise InvalidFieldError(exc.field, exc.reason) from exc
    if any("\0" in item for item in _strings(attributes)):
        raise InvalidFieldError(path, "contains a NUL character")
    return attributes


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
