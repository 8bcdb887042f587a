"""What every entity store promises, and what decisions that rest on entities can rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pdp.errors import InvalidFieldError, SessionMovedError, TenantUnknownError
from pdp.model import JSON, Attribution, EntityName, EntityQuery, Facts, KnownEntity, Position
from tests.contract.conftest import Store
from tests.support import builders
from tests.support.builders import TENANT

OPS = builders.AUTHOR
# Entities have had an author from the start; earlier releases kept no issuer.
BEN = Attribution(subject="ben", issuer=None)
VENDOR = EntityName(type="vendor", id="V-1")
OTHER = EntityName(type="vendor", id="V-2")
INVOICE = EntityName(type="invoice", id="INV-1001")
ORDER = EntityName(type="po", id="PO-77")
ASKED = (
    EntityQuery(name="invoice", type="invoice", id="INV-1001"),
    EntityQuery(name="vendor", type="vendor", id="V-1"),
    EntityQuery(name="order", type="po", id="INV-1001", of="invoice", via="po"),
)


@pytest.fixture(autouse=True)
async def tenant(store: Store) -> None:
    await store.control_plane.put_tenant(TENANT, b"{}", by=builders.AUTHOR)


async def put(store: Store, *, tenant: str = TENANT, **attributes: JSON) -> int:
    """Write the vendor."""
    return await store.entities.put_entities(tenant, {VENDOR: attributes}, by=OPS)


async def facts(store: Store, *queries: EntityQuery, tenant: str = TENANT) -> Facts:
    request = builders.facts_request(builders.key("no-session", tenant=tenant), entities=queries or ASKED)
    return await store.information_point.gather(request)


async def test_what_is_written_is_known_with_its_revision(store: Store) -> None:
    attributes = {"status": "active", "limits": [1, None, {"a": True}], "name": "Nordwind ü \U0001f600"}
    revision = await store.entities.put_entities(TENANT, {VENDOR: attributes, OTHER: {}}, by=OPS)
    known = await facts(store)
    assert known.entities["vendor"] == KnownEntity(name=VENDOR, revision=revision, attributes=attributes)
    assert known.data_revisions["entities"] == revision


async def test_listed_entities_are_known_beside_those_of_the_call(store: Store) -> None:
    first = await store.entities.put_entities(TENANT, {VENDOR: {"n": 1}, OTHER: {"n": 2}}, by=OPS)
    gone = await store.entities.delete_entities(TENANT, [OTHER], by=OPS)
    request = builders.facts_request(builders.key("no-session"), entities=ASKED)
    known = await store.information_point.gather(replace(request, listed=(INVOICE, OTHER, VENDOR)))
    assert known.listed == {
        INVOICE: KnownEntity(name=INVOICE, revision=0, attributes=None),
        OTHER: KnownEntity(name=OTHER, revision=gone, attributes=None),
        VENDOR: KnownEntity(name=VENDOR, revision=first, attributes={"n": 1}),
    }
    assert known.entities["vendor"] == known.listed[VENDOR]
    assert "" not in known.entities


async def test_what_was_never_written_has_revision_0(store: Store) -> None:
    known = await facts(store)
    assert known.entities == {
        "invoice": KnownEntity(name=INVOICE, revision=0, attributes=None),
        "vendor": KnownEntity(name=VENDOR, revision=0, attributes=None),
    }
    assert known.data_revisions["entities"] == 0


async def test_one_named_attribute_is_followed_in_the_same_read(store: Store) -> None:
    await store.entities.put_entities(TENANT, {INVOICE: {"po": "PO-77"}}, by=OPS)
    known = await facts(store)
    assert known.entities["order"] == KnownEntity(name=ORDER, revision=0, attributes=None)
    revision = await store.entities.put_entities(TENANT, {ORDER: {"open": "1200"}}, by=OPS)
    known = await facts(store)
    assert known.entities["order"] == KnownEntity(name=ORDER, revision=revision, attributes={"open": "1200"})


@pytest.mark.parametrize("po", [None, 77, True, ["PO-77"], {"id": "PO-77"}, "", " PO-77", "PO\n77"])
async def test_attribute_that_is_no_id_leads_nowhere(store: Store, po: JSON) -> None:
    await store.entities.put_entities(TENANT, {INVOICE: {"po": po}, ORDER: {}}, by=OPS)
    assert set((await facts(store)).entities) == {"invoice", "vendor"}


async def test_attribute_of_a_deleted_entity_leads_nowhere(store: Store) -> None:
    await store.entities.put_entities(TENANT, {INVOICE: {"po": "PO-77"}, ORDER: {}}, by=OPS)
    await store.entities.delete_entities(TENANT, [INVOICE], by=OPS)
    assert "order" not in (await facts(store)).entities


async def test_odd_names_are_read_as_they_are(store: Store) -> None:
    for odd in ['"', "\\", "{a,b}", "NULL", "null", "ü \U0001f600", "a'b", "%s"]:
        name = EntityName(type="vendor", id=odd)
        revision = await store.entities.put_entities(TENANT, {name: {"id": odd}}, by=OPS)
        known = await facts(store, EntityQuery(name="odd", type="vendor", id=odd))
        assert known.entities["odd"] == KnownEntity(name=name, revision=revision, attributes={"id": odd})


async def test_each_write_is_one_revision(store: Store) -> None:
    first = await put(store, status="active")
    second = await store.entities.put_entities(TENANT, {VENDOR: {}, OTHER: {}}, by=OPS)
    third = await store.entities.delete_entities(TENANT, [OTHER], by=OPS)
    assert (first, second, third) == (1, 2, 3)


async def test_entities_move_no_epoch(store: Store) -> None:
    before = (await facts(store)).epoch
    await put(store, status="active")
    assert (await facts(store)).epoch == before


async def test_other_tenants_entities_are_invisible(store: Store) -> None:
    await store.control_plane.put_tenant("globex", b"{}", by=builders.AUTHOR)
    await put(store, tenant="globex", status="active")
    known = await facts(store)
    assert known.entities["vendor"].revision == 0
    assert known.data_revisions["entities"] == 0
    assert await store.entities.entity_at(TENANT, VENDOR) is None
    assert await store.entities.entity_history(TENANT, VENDOR, before=None, limit=10) == []


async def test_unknown_tenant_has_no_entities(store: Store) -> None:
    with pytest.raises(TenantUnknownError):
        await put(store, tenant="nobody")
    with pytest.raises(TenantUnknownError):
        await store.entities.delete_entities("nobody", [VENDOR], by=OPS)


def anything(attributes: Mapping[str, JSON]) -> None:
    pass


async def test_patch_changes_what_it_names(store: Store) -> None:
    await put(store, status="active", name="Nordwind", note="x")
    version = await store.entities.patch_entity(
        TENANT, VENDOR, set_={"status": "blocked"}, unset=["note", "nothing"], check=anything, by=BEN
    )
    assert version is not None
    assert version.attributes == {"status": "blocked", "name": "Nordwind"}
    assert (version.revision, version.by) == (2, BEN)
    assert (await facts(store)).entities["vendor"].attributes == version.attributes


async def test_patch_of_nothing_changes_nothing(store: Store) -> None:
    patch = store.entities.patch_entity
    assert await patch(TENANT, VENDOR, set_={"a": 1}, unset=[], check=anything, by=OPS) is None
    await put(store)
    await store.entities.delete_entities(TENANT, [VENDOR], by=OPS)
    assert await patch(TENANT, VENDOR, set_={"a": 1}, unset=[], check=anything, by=OPS) is None
    assert (await facts(store)).data_revisions["entities"] == 2


async def test_refused_patch_leaves_no_trace(store: Store) -> None:
    await put(store, status="active")

    def refuse(attributes: Mapping[str, JSON]) -> None:
        assert attributes == {"status": "active", "a": 1}
        raise InvalidFieldError("set", "is refused")

    with pytest.raises(InvalidFieldError):
        await store.entities.patch_entity(TENANT, VENDOR, set_={"a": 1}, unset=[], check=refuse, by=OPS)
    known = await facts(store)
    assert (known.entities["vendor"].attributes, known.data_revisions["entities"]) == (
        {"status": "active"},
        1,
    )


async def test_history_keeps_what_was_known_when(store: Store) -> None:
    await put(store, status="active")
    await put(store, status="blocked")
    await store.entities.delete_entities(TENANT, [VENDOR, OTHER], by=BEN)
    last = await put(store, status="new")
    history = await store.entities.entity_history(TENANT, VENDOR, before=None, limit=10)
    assert [(v.revision, v.attributes, v.by) for v in history] == [
        (4, {"status": "new"}, OPS),
        (3, None, BEN),
        (2, {"status": "blocked"}, OPS),
        (1, {"status": "active"}, OPS),
    ]
    older = await store.entities.entity_history(TENANT, VENDOR, before=last, limit=2)
    assert [v.revision for v in older] == [3, 2]
    for revision, attributes in ((1, {"status": "active"}), (2, {"status": "blocked"}), (3, None)):
        version = await store.entities.entity_at(TENANT, VENDOR, revision=revision)
        assert version is not None
        assert version.attributes == attributes
    now = await store.entities.entity_at(TENANT, VENDOR)
    assert now is not None
    assert now.revision == last
    assert await store.entities.entity_history(TENANT, OTHER, before=None, limit=10) == []


async def recorded(store: Store, entities: Mapping[EntityName, int]) -> Position:
    key = builders.key("unknown")
    epoch = (await facts(store)).epoch
    return await store.ledger.record(builders.recording(key, epoch=epoch, entities=entities))


async def test_decision_on_entities_as_they_are_is_recorded(store: Store) -> None:
    revision = await put(store, status="active")
    await recorded(store, {VENDOR: revision, OTHER: 0})


async def test_decision_on_an_entity_that_moved_is_refused(store: Store) -> None:
    revision = await put(store, status="active")
    await put(store, status="active")
    with pytest.raises(SessionMovedError):
        await recorded(store, {VENDOR: revision})


async def test_decision_on_an_entity_that_appeared_or_went_is_refused(store: Store) -> None:
    revision = await put(store, status="active")
    with pytest.raises(SessionMovedError):
        await recorded(store, {VENDOR: 0})
    await store.entities.delete_entities(TENANT, [VENDOR], by=OPS)
    with pytest.raises(SessionMovedError):
        await recorded(store, {VENDOR: revision})


async def test_one_that_rests_on_what_moved_does_not_take_others_along(store: Store) -> None:
    revision = await put(store, status="active")
    results = await asyncio.gather(
        *(recorded(store, {VENDOR: revision if n % 2 else 0}) for n in range(8)), return_exceptions=True
    )
    assert [isinstance(result, Position) for result in results] == [n % 2 == 1 for n in range(8)]


async def test_preview_says_what_a_write_would_change_and_leaves_no_trace(store: Store) -> None:
    await put(store, status="active")
    before = await store.entities.entity_history(TENANT, VENDOR, before=None, limit=9)
    found = await store.entities.preview(
        TENANT,
        [VENDOR, OTHER],
        lambda s: s.put_entities(TENANT, {VENDOR: {"status": "blocked"}, OTHER: {"n": 1}}, by=OPS),
    )
    assert [(item.name, item.before, item.after) for item in found] == [
        ("vendor:V-1", '{"status":"active"}', '{"status":"blocked"}'),
        ("vendor:V-2", None, '{"n":1}'),
    ]
    gone = await store.entities.preview(
        TENANT, [VENDOR, OTHER], lambda s: s.delete_entities(TENANT, [VENDOR, OTHER], by=OPS)
    )
    assert [(item.name, item.after) for item in gone] == [("vendor:V-1", None)]
    patched = await store.entities.preview(
        TENANT,
        [VENDOR],
        lambda s: s.patch_entity(
            TENANT, VENDOR, set_={"n": 1}, unset=["status"], check=lambda _: None, by=OPS
        ),
    )
    assert [item.after for item in patched] == ['{"n":1}']
    assert await store.entities.entity_history(TENANT, VENDOR, before=None, limit=9) == before
    assert await store.entities.entity_at(TENANT, OTHER) is None
    with pytest.raises(TenantUnknownError):
        await store.entities.preview(
            "nobody", [VENDOR], lambda s: s.put_entities("nobody", {VENDOR: {}}, by=OPS)
        )
