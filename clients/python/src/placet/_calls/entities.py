"""What actions are about: PutEntities, PatchEntity, DeleteEntities, GetEntity, ListEntityHistory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from placet._calls.attribution import read_attribution
from placet._calls.call import Call, read_instant, reader
from placet._calls.fields import items, mapping, members, page_limit, revision, text, texts
from placet._calls.jsontext import object_text
from placet.canonical import CanonicalError, parse_object
from placet.errors import AnswerError, invalid
from placet.model import Entity
from placet.v1 import entity_service_pb2 as messages


def put_entities(values: Iterable[Mapping[str, Any]], reason: str = "") -> Call[int]:
    return Call(
        request=messages.PutEntitiesRequest(
            entities=[_entity_message(value, path) for path, value in items(values, "entities")],
            reason=text(reason, "reason"),
        ),
        read=reader(messages.PutEntitiesResponse, lambda answer: answer.revision),
    )


def patch_entity(
    name: str,
    set_: Mapping[str, Any],
    unset: Iterable[str],
    reason: str = "",
    posted: Mapping[str, Any] | None = None,
) -> Call[Entity]:
    return Call(
        request=messages.PatchEntityRequest(
            name=entity_name(name),
            set=object_text(set_, "set") if set_ else b"",
            unset=texts(unset, "unset"),
            reason=text(reason, "reason"),
            posted=_posting_messages(posted or {}, "posted"),
        ),
        read=reader(messages.PatchEntityResponse, lambda answer: _read_entity(answer.entity)),
    )


def delete_entities(names: Iterable[str], reason: str = "") -> Call[int]:
    return Call(
        request=messages.DeleteEntitiesRequest(
            names=[entity_name(item, path) for path, item in items(names, "names")],
            reason=text(reason, "reason"),
        ),
        read=reader(messages.DeleteEntitiesResponse, lambda answer: answer.revision),
    )


def get_entity(name: str, at_revision: int) -> Call[Entity]:
    return Call(
        request=messages.GetEntityRequest(
            name=entity_name(name), at_revision=revision(at_revision, "at_revision")
        ),
        read=reader(messages.GetEntityResponse, lambda answer: _read_entity(answer.entity)),
    )


def entity_history(name: str, before_revision: int, limit: int) -> Call[list[Entity]]:
    return Call(
        request=messages.ListEntityHistoryRequest(
            name=entity_name(name),
            before_revision=revision(before_revision, "before_revision"),
            limit=page_limit(limit),
        ),
        read=reader(
            messages.ListEntityHistoryResponse,
            lambda answer: [_read_entity(version) for version in answer.versions],
        ),
    )


def entity_name(name: str, path: str = "name") -> messages.EntityName:
    """Read "type:id"; an id may have colons of its own."""
    kind, colon, entity_id = text(name, path).partition(":")
    if not colon:
        raise invalid(path, 'must be "type:id", for example "vendor:V-1"')
    return _entity_name(kind, entity_id, path)


def _entity_name(kind: Any, entity_id: Any, path: str) -> messages.EntityName:
    return messages.EntityName(type=text(kind, f"{path}.type"), id=text(entity_id, f"{path}.id"))


def _entity_message(value: Any, path: str) -> messages.Entity:
    given = members(value, path, ("type", "id", "attributes", "posted"), required=("type", "id"))
    return messages.Entity(
        name=_entity_name(given["type"], given["id"], path),
        attributes=object_text(given.get("attributes", {}), f"{path}.attributes"),
        posted=_posting_messages(given.get("posted", {}), f"{path}.posted"),
    )


def _posting_messages(value: Any, path: str) -> list[messages.Posting]:
    """Read amounts by decision: decimal text, whole numbers or decimals, in major units."""
    found = []
    for decision_id, amount in mapping(value, path).items():
        at = f"{path}.{decision_id}"
        if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
            raise invalid(at, "must be an amount such as 600 or 600.00, as text or as an exact number")
        said = amount if isinstance(amount, str) else format(Decimal(amount), "f")
        found.append(messages.Posting(decision_id=text(decision_id, at), amount=said))
    return found


def _read_entity(message: messages.EntityVersion) -> Entity:
    if not message.name.id or not message.revision:
        raise AnswerError("the answer has no entity")
    attributes = None
    if not message.deleted:
        try:
            attributes = parse_object(message.attributes, field="entity.attributes")
        except CanonicalError as exc:
            raise AnswerError(str(exc)) from exc
    return Entity(
        type=message.name.type,
        id=message.name.id,
        attributes=attributes,
        revision=message.revision,
        written_by=message.written_by,
        written_at=read_instant(message.written_at, "entity.written_at"),
        by=read_attribution(message),
        posted={posting.decision_id: posting.amount for posting in message.posted},
    )
