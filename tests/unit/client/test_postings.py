"""Postings on their way: plain values, messages, domain values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pdp.errors import InvalidFieldError
from pdp.model import EntityName, Posting
from pdp.server.messages import entities
from placet._calls.entities import patch_entity, put_entities
from placet.errors import InvalidRequestError

ORDER = EntityName(type="po", id="PO-77")


def put(posted: Any) -> dict[EntityName, tuple[Posting, ...]]:
    value = {"type": "po", "id": "PO-77", "attributes": {}, "posted": posted}
    return entities.postings(put_entities([value]).request)


@pytest.mark.parametrize("amount", ["600.00", 600, Decimal("600.00")])
def test_posting_comes_out_exactly(amount: Any) -> None:
    (posting,) = put({"d-1": amount})[ORDER]
    assert (posting.decision_id, posting.amount) == ("d-1", Decimal(600))
    patched = entities.patch(patch_entity("po:PO-77", {}, (), posted={"d-1": amount}).request)
    assert [(each.decision_id, each.amount) for each in patched.posted] == [("d-1", Decimal(600))]


def test_entity_without_postings_has_none() -> None:
    assert put({}) == {}
    assert entities.patch(patch_entity("po:PO-77", {"a": 1}, ()).request).posted == ()


@pytest.mark.parametrize("amount", [600.0, True, None, ["600"]])
def test_client_refuses_an_amount_that_is_not_exact(amount: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        put({"d-1": amount})
    assert refused.value.violations[0].field == "entities[0].posted.d-1"


@pytest.mark.parametrize(
    ("posted", "field"),
    [
        ({"d-1": "much"}, "entities[0].posted[0].amount"),
        ({"d-1": "-1"}, "entities[0].posted[0].amount"),
        ({"d-1": ""}, "entities[0].posted[0].amount"),
        ({" d-1": "1"}, "entities[0].posted[0].decision_id"),
        ({"": "1"}, "entities[0].posted[0].decision_id"),
    ],
)
def test_server_names_the_field_of_a_posting_that_is_none(posted: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        put(posted)
    assert refused.value.field == field


def test_decision_is_named_once() -> None:
    request = put_entities([{"type": "po", "id": "PO-77", "posted": {"d-1": "1"}}]).request
    request.entities[0].posted.add(decision_id="d-1", amount="2")
    with pytest.raises(InvalidFieldError) as refused:
        entities.postings(request)
    assert refused.value.field == "entities[0].posted[1].decision_id"
