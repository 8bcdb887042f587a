"""What is found in registrations, by code; what is right has no finding."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from placet._lint import CODES, Severity, lint_tools
from placet._lint.fields import field_of
from placet._lint.targets import looks_like_target
from placet.cli.lint import is_currency

TEXT: dict[str, Any] = {"type": "string"}
PROPERTIES: dict[str, Any] = {
    "invoice": TEXT,
    "vendor": TEXT,
    "amount": {"type": ["number", "string"]},
    "currency": TEXT,
    "note": TEXT,
}
PAY: dict[str, Any] = {
    "name": "payments.create",
    "effect": "pay",
    "resource": "invoice:{invoice}",
    "arguments_schema": {
        "type": "object",
        "properties": PROPERTIES,
        "required": ["invoice", "vendor", "amount", "currency"],
        "additionalProperties": False,
    },
    "amount": {"argument": "amount", "unit": "major", "currency_argument": "currency"},
    "argument_roles": {"invoice": "selector", "vendor": "destination", "note": "content"},
    "normalise": {"invoice": ["trim", "upper"]},
    "entities": [
        {
            "name": "invoice",
            "type": "invoice",
            "id": "{invoice}",
            "role": "record",
            "amount_attribute": "amount",
            "currency_attribute": "currency",
        },
        {
            "name": "vendor",
            "type": "vendor",
            "id": "{vendor}",
            "role": "counterparty",
            "must_match": {"entity": "invoice", "attribute": "vendor"},
        },
        {
            "name": "order",
            "type": "po",
            "via": {"entity": "invoice", "attribute": "po"},
            "role": "order",
            "amount_attribute": "open",
        },
    ],
    "business_key": {"arguments": ["invoice", "vendor"]},
    "prerequisites": [{"tool": "invoices.approve", "same": ["invoice"], "required": True}],
}
APPROVE: dict[str, Any] = {
    "name": "invoices.approve",
    "effect": "write",
    "resource": "invoice:{invoice}",
    "arguments_schema": {
        "type": "object",
        "properties": {"invoice": TEXT},
        "required": ["invoice"],
        "additionalProperties": False,
    },
}


def changed(path: str, value: Any, tool: dict[str, Any] = PAY) -> dict[str, Any]:
    """Return the tool with the member at a path such as `entities.0.type` set; ... removes it."""
    result = copy.deepcopy(tool)
    *around, last = path.split(".")
    place: Any = result
    for part in around:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return result


def found(*tools: dict[str, Any], registered: Any = ()) -> list[str]:
    """Return what is found: each code with the field of the message that it names."""
    return [
        f"{finding.code} {field_of(tools[finding.index], finding.path)}".rstrip()
        for finding in lint_tools(tools, is_currency=is_currency, registered=registered)
    ]


def test_what_is_right_has_no_finding() -> None:
    assert found(PAY, APPROVE) == []
    assert found({"name": "clock.read", "effect": "read", "resource": "tool:clock"}) == []


def with_property(argument: str, schema: Any, /, *, required: bool = True, **members: Any) -> dict[str, Any]:
    """Return a tool of one argument."""
    return {
        "name": "things.read",
        "effect": "read",
        "resource": "thing:1",
        "arguments_schema": {
            "type": "object",
            "properties": {argument: schema},
            "required": [argument] if required else [],
            "additionalProperties": False,
        },
    } | members


NESTED = {"type": "object", "properties": {"Authorization": TEXT}, "additionalProperties": False}
CASES: list[tuple[dict[str, Any], list[str]]] = [
    # --- amounts
    (
        changed("amount", ..., changed("entities", [])),
        ["amount.absent", "target.unjudged argument_roles[vendor]"],
    ),
    (changed("amount.unit", ...), ["amount.unit_missing amount.unit"]),
    (changed("amount.currency_argument", ...), ["amount.currency_missing amount.currency"]),
    (
        changed("amount", {"argument": "amount", "unit": "major", "currency_code": "eur"}),
        ["amount.currency_invalid amount.currency_code"],
    ),
    (changed("amount.argument", "amuont"), ["amount.unknown_argument amount.argument"]),
    (
        changed("amount.currency_argument", "curency"),
        ["amount.unknown_argument amount.currency_argument"],
    ),
    (changed("amount.currency_argument", "amount"), ["amount.invalid amount.currency_argument"]),
    (
        changed("arguments_schema.properties.amount", {"type": "array", "items": TEXT}),
        ["amount.invalid amount.argument"],
    ),
    (
        changed("arguments_schema.required", ["invoice", "vendor"]),
        ["amount.optional amount.argument", "amount.optional amount.currency_argument"],
    ),
    (changed("normalise.amount", ["trim"]), ["amount.normalised normalise[1].argument"]),
    # --- ids
    (changed("resource", "invoice"), ["resource.invalid resource"]),
    (changed("resource", "Invoice:{invoice}"), ["resource.invalid resource"]),
    (changed("resource", "invoice:../{invoice}"), ["resource.invalid resource"]),
    (changed("resource", "invoice:a/%2e/{invoice}"), ["resource.invalid resource"]),
    (changed("resource", "invoice:./{invoice}"), []),
    (changed("resource", "invoice:{invoice"), ["template.invalid resource"]),
    (changed("resource", "invoice:{invoice}{vendor}"), ["template.invalid resource"]),
    (changed("resource", "invoice:{invioce}"), ["template.unknown_argument resource"]),
    (
        changed("entities.1.id", "{vendr}"),
        ["template.unknown_argument entities[1].id", "target.unjudged argument_roles[vendor]"],
    ),
    (changed("resource", "invoice:{note}"), ["template.optional resource"]),
    (
        changed("arguments_schema.properties.vendor", {"type": ["string", "null"]}),
        ["template.optional entities[1].id"],
    ),
    (
        changed("arguments_schema.properties.vendor", {"type": "array", "items": TEXT}),
        ["template.not_text entities[1].id"],
    ),
    (
        changed("arguments_schema.properties.vendor", {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}),
        ["template.optional entities[1].id"],
    ),
    (with_property("path", TEXT, resource="file:/srv/{path}"), ["template.segment resource"]),
    (with_property("path", TEXT, resource="file:/srv/{path}", normalise={"path": ["path"]}), []),
    (with_property("path", TEXT, resource="file:{path}"), []),
    (with_property("path", TEXT, resource="file:{path}", glob=True), ["glob.unused glob"]),
    (
        {"name": "a", "effect": "read", "resource": "a:{b}"},
        ["template.unknown_argument resource"],
    ),
    # --- arguments
    (changed("argument_roles.invioce", "selector"), ["role.unknown_argument argument_roles[invioce]"]),
    (changed("normalise.vender", ["trim"]), ["normalise.unknown_argument normalise[1].argument"]),
    (
        with_property("n", {"type": "integer"}, normalise={"n": ["trim"]}),
        ["normalise.not_text normalise[0].argument"],
    ),
    (changed("business_key", ...), ["business_key.absent"]),
    (
        changed("business_key.arguments", ["invoice", "vendro"]),
        ["business_key.unknown_argument business_key.arguments[1]"],
    ),
    (changed("business_key.arguments", ["note"]), ["business_key.optional business_key.arguments[0]"]),
    (
        with_property(
            "a",
            TEXT,
            normalise={"b": ["trim"]},
            arguments_schema={"type": "object", "properties": {"a": TEXT}},
        ),
        ["schema.open arguments_schema", "argument.unnamed normalise[0].argument"],
    ),
    # --- secrets
    (changed("secret_arguments", ["nope"]), ["secret.undeclared secret_arguments[0]"]),
    (changed("argument_roles.nots", "secret"), ["secret.undeclared argument_roles[nots]"]),
    (
        changed("secret_arguments", ["invoice"], changed("entities", [])),
        [
            "secret.in_id resource",
            "secret.in_key business_key.arguments[0]",
            "secret.compared normalise[0].argument",
            "secret.compared prerequisites[0].same[0]",
            "target.unjudged argument_roles[vendor]",
        ],
    ),
    (
        changed("secret_arguments", ["vendor"]),
        ["secret.in_id entities[1].id", "secret.in_key business_key.arguments[1]"],
    ),
    (changed("secret_arguments", ["amount"]), ["secret.is_amount amount.argument"]),
    (
        with_property(
            "password",
            TEXT,
            secret_arguments=["pasword"],
            arguments_schema={"type": "object", "properties": {"password": TEXT}},
        ),
        [
            "schema.open arguments_schema",
            "secret.undeclared secret_arguments[0]",
            "secret.unlisted arguments_schema.properties.password",
        ],
    ),
    (with_property("api_key", TEXT), ["secret.unlisted arguments_schema.properties.api_key"]),
    (with_property("apiKey", TEXT, secret_arguments=["apiKey"]), []),
    (with_property("api_key", TEXT, argument_roles={"api_key": "other"}), []),
    (
        with_property("headers", NESTED),
        ["secret.unlisted arguments_schema.properties.headers.properties.Authorization"],
    ),
    (with_property("headers", NESTED, secret_arguments=["headers"]), []),
    (with_property("headers", NESTED, secret_arguments=["headers.authorization"]), []),
    (
        with_property("headers", NESTED, secret_arguments=["headers.token"]),
        [
            "secret.undeclared secret_arguments[0]",
            "secret.unlisted arguments_schema.properties.headers.properties.Authorization",
        ],
    ),
    (
        with_property(
            "items", {"type": "array", "items": NESTED}, secret_arguments=["items[].authorization"]
        ),
        [],
    ),
    (
        with_property("env", {"type": "object", "additionalProperties": TEXT}, secret_arguments=["env.KEY"]),
        [],
    ),
    (
        with_property("env", {"type": "object"}, secret_arguments=["env.KEY"]),
        ["schema.open arguments_schema.properties.env", "secret.undeclared secret_arguments[0]"],
    ),
    (
        with_property("note", TEXT, secret_arguments=["Note"], normalise={"note": ["trim"]}),
        ["secret.compared normalise[0].argument"],
    ),
    (with_property("page_token", TEXT), []),
    (with_property("password_length", {"type": "integer"}), []),
    # --- entities
    (changed("entities.1.name", "Vendor"), ["entity.invalid entities[1].name"]),
    (
        changed("entities.1.name", "invoice"),
        ["entity.invalid entities[1].name", "entity.invalid entities[1].must_match.entity"],
    ),
    (changed("entities.1.type", "Vendor"), ["entity.invalid entities[1].type"]),
    (
        changed("entities.2.role", "record"),
        ["entity.invalid entities[2].role", "entity.invalid entities[2].currency_attribute"],
    ),
    (
        changed("entities.1.must_match.entity", "invoise"),
        ["entity.unknown_entity entities[1].must_match.entity"],
    ),
    (changed("entities.2.via.entity", "invoise"), ["entity.unknown_entity entities[2].via.entity"]),
    (
        changed(
            "entities.0",
            {
                "name": "invoice",
                "type": "invoice",
                "via": {"entity": "vendor", "attribute": "x"},
                "role": "other",
            },
        ),
        ["entity.invalid entities[2].currency_attribute", "entity.invalid entities[2].via.entity"],
    ),
    (changed("entities.0.amount_attribute", ...), ["entity.invalid entities[0].amount_attribute"]),
    (changed("entities.0.currency_attribute", ...), ["entity.invalid entities[0].currency_attribute"]),
    (changed("entities.1.amount_attribute", "x"), ["entity.invalid entities[1].role"]),
    (changed("entities.1.total_attribute", "x"), ["entity.invalid entities[1].role"]),
    (changed("entities.1.posted", "linked"), ["entity.invalid entities[1].role"]),
    (changed("entities.0.total_attribute", "sum"), ["entity.invalid entities[0].amount_attribute"]),
    (changed("entities.0.posted", "linked"), ["entity.invalid entities[0].posted"]),
    (changed("entities.2.posted", "linked"), []),
    (changed("entities.2.measure", "By weight"), ["entity.invalid entities[2].measure"]),
    (changed("entities.2.amount_attribute", ...), ["entity.invalid entities[2].amount_attribute"]),
    (changed("entities.2.open_attribute", "left", changed("entities.2.amount_attribute", ...)), []),
    # --- prerequisites
    (changed("prerequisites.0.tool", "payments.create"), ["prerequisite.self prerequisites[0].tool"]),
    (
        changed("prerequisites.0.tool", "invoices.aprove"),
        ["prerequisite.unknown_tool prerequisites[0].tool"],
    ),
    (
        changed("prerequisites.0.same", ["invoise"]),
        ["prerequisite.unknown_argument prerequisites[0].same[0]"],
    ),
    (
        changed("prerequisites.0.same", ["vendor"]),
        ["prerequisite.unknown_argument prerequisites[0].same[0]"],
    ),
    # --- schemas
    (with_property("a", {"type": "strng"}), ["schema.invalid arguments_schema.properties.a.type"]),
    (
        with_property("a", TEXT | {"required": True}),
        ["schema.invalid arguments_schema.properties.a.required"],
    ),
    (with_property("a", "string"), ["schema.invalid arguments_schema.properties.a"]),
    (changed("arguments_schema.propertis", {}), ["schema.misspelt arguments_schema.propertis"]),
    (with_property("a", False), ["schema.never arguments_schema.required"]),
    (with_property("a", {}), ["schema.open arguments_schema.properties.a"]),
    (
        with_property(
            "a",
            TEXT,
            arguments_schema={"allOf": [{"anyOf": [{"properties": {f"a{n}": TEXT}} for n in range(9)]}] * 2},
        ),
        ["schema.unclear arguments_schema"],
    ),
    # --- effects
    (with_property("a", TEXT, name="files.delete"), ["effect.softer effect"]),
    (with_property("a", TEXT, name="sendEmail", effect="write"), ["effect.softer effect"]),
    (with_property("a", TEXT, name="mcp__bank__transfer_funds"), ["effect.softer effect"]),
    (with_property("a", TEXT, name="update_password", effect="write"), ["effect.softer effect"]),
    (with_property("a", TEXT, name="find_and_delete"), ["effect.softer effect"]),
    (with_property("a", TEXT, name="delete_file", effect="delete"), []),
    (with_property("a", TEXT, name="payments.list"), []),
    (with_property("a", TEXT, name="get_deleted_items"), []),
    (with_property("a", TEXT, name="list_transfer_options"), []),
    (with_property("a", TEXT, name="refund_status"), []),
    # --- targets
    (with_property("bcc", TEXT), ["target.unjudged arguments_schema.properties.bcc"]),
    (with_property("bcc", TEXT, argument_roles={"bcc": "other"}), []),
    (
        with_property("x", TEXT, argument_roles={"x": "destination"}),
        ["target.unjudged argument_roles[x]"],
    ),
    (with_property("destination", {"enum": ["a", "b"]}), []),
    (with_property("to", TEXT, resource="mailbox:{to}"), []),
    (with_property("to", {"type": "integer"}), []),
    (
        with_property(
            "message", {"type": "object", "properties": {"bcc": TEXT}, "additionalProperties": False}
        ),
        ["target.unjudged arguments_schema.properties.message.properties.bcc"],
    ),
    (
        with_property("recipients", {"type": "array", "items": NESTED | {"properties": {"email": TEXT}}}),
        ["target.unjudged arguments_schema.properties.recipients"],
    ),
    # --- redeeming
    (with_property("a", TEXT, redeem="required"), ["redeem.audience_missing audience"]),
    (with_property("a", TEXT, redeem="required", audience="files"), []),
]


@pytest.mark.parametrize(
    ("tool", "codes"), CASES, ids=lambda value: value.get("name") if isinstance(value, dict) else None
)
def test_finding_has_its_code_and_names_the_field(tool: dict[str, Any], codes: list[str]) -> None:
    assert found(tool, registered=[APPROVE]) == codes


NEVER: list[dict[str, Any]] = [
    {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "number", "minimum": 5, "maximum": 2},
    {"type": "integer", "exclusiveMinimum": 5, "maximum": 5},
    {"type": "number", "minimum": 5, "exclusiveMaximum": 5},
    {"type": "number", "exclusiveMinimum": 5, "exclusiveMaximum": 5},
    {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 1},
    {"type": "object", "minProperties": 2, "maxProperties": 1, "additionalProperties": False},
    {"allOf": [{"type": "string", "minLength": 5}, {"maxLength": 2}]},
    {"anyOf": [{"type": "string", "minLength": 5}, {"type": "null", "enum": [0]}], "maxLength": 2},
    {"type": "string", "enum": [1, 2]},
    {"enum": []},
]


@pytest.mark.parametrize("schema", NEVER, ids=str)
def test_what_no_value_fits_is_never_passed_where_it_is_required(schema: Any) -> None:
    never = "schema.never arguments_schema.properties.x"
    assert found(with_property("x", schema)) == [never]
    assert never not in found(with_property("x", schema, required=False))
    assert never not in found(with_property("x", {"anyOf": [schema, {"type": "null"}]}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 2, "maxLength": 2},
        {"type": ["string", "number"], "minLength": 5, "maxLength": 2},
        {"type": "number", "minimum": 2, "maximum": 2},
        {"type": "string", "minimum": 5, "maximum": 2},
        {"type": "number", "exclusiveMinimum": 1, "maximum": 2},
    ],
    ids=str,
)
def test_bounds_that_a_value_fits_are_none(schema: Any) -> None:
    assert found(with_property("x", schema)) == []


@pytest.mark.parametrize(
    ("schema", "steps", "wrong"),
    [
        ({"enum": ["eur", "usd"]}, [], True),
        ({"enum": ["eur", "usd"]}, ["upper"], False),
        ({"enum": ["EUR", "usd"]}, ["lower"], True),
        ({"enum": ["euro", "EUR"]}, [], False),
        ({"const": "euro"}, [], True),
        ({"type": "string"}, [], False),
        ({"anyOf": [{"const": "euro"}, {"type": "string"}]}, [], False),
        ({"anyOf": [{"const": "euro"}, {"const": "dollar"}]}, [], True),
    ],
)
def test_values_of_a_currency_are_judged_as_they_are_compared(schema: Any, steps: Any, wrong: bool) -> None:
    tool = changed("arguments_schema.properties.currency", schema)
    tool["normalise"] = {"currency": steps} if steps else {}
    code = "amount.currency_invalid amount.currency_argument"
    assert (code in found(tool, registered=[APPROVE])) is wrong


def test_every_code_is_tried() -> None:
    tried = {code.split()[0] for _, codes in CASES for code in codes}
    elsewhere = {"form.invalid", "tool.duplicate", "prerequisite.circle"}
    assert tried | elsewhere == set(CODES)


def test_one_name_twice_is_found() -> None:
    assert found(APPROVE, APPROVE) == ["tool.duplicate name"]


def looked_up(argument: str, **members: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {argument: TEXT},
        "required": [argument],
        "additionalProperties": False,
    }
    return {"effect": "read", "resource": "x:1", "arguments_schema": schema, **members}


@pytest.mark.parametrize("required", [True, False])
def test_what_a_registered_tool_compares_stays(required: bool) -> None:
    after = looked_up("id", name="b", prerequisites=[{"tool": "a", "same": ["id"], "required": required}])
    changed = looked_up("nr", name="a")
    (finding,) = lint_tools([changed], is_currency=is_currency, registered=[looked_up("id", name="a"), after])
    assert (finding.code, finding.path) == ("prerequisite.unknown_argument", ("arguments_schema",))
    assert "'id', by which b looks" in finding.message
    assert "prerequisites[0].same[0]" in finding.message
    # Without a schema it has no argument at all; and written anew, the other one is judged by itself.
    bare = {"name": "a", "effect": "read", "resource": "x:1"}
    assert found(bare, registered=[after]) == ["prerequisite.unknown_argument arguments_schema"]
    anew = looked_up("nr", name="b", prerequisites=[{"tool": "a", "same": ["nr"], "required": required}])
    assert found(changed, anew, registered=[after]) == []
    assert found(looked_up("id", name="a"), registered=[after]) == []


def chain_of(*names: str, required: bool = True) -> list[dict[str, Any]]:
    """Return tools each of which has the next one as its prerequisite, and the last one the first."""
    return [
        with_property("a", TEXT, name=name, prerequisites=[{"tool": needed, "required": required}])
        for name, needed in zip(names, (*names[1:], names[0]), strict=True)
    ]


def test_prerequisites_in_a_circle_are_found() -> None:
    code = "prerequisite.circle prerequisites[0].tool"
    assert found(*chain_of("a", "b", "c")) == [code] * 3
    assert found(*chain_of("a", "b")[:1], registered=chain_of("a", "b")[1:]) == [code]
    assert found(*chain_of("a", "b", required=False)) == []
    (first, *_) = lint_tools(chain_of("a", "b", "c"), is_currency=is_currency)
    assert first.message.endswith("a needs b needs c needs a")


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (changed("resource", "invoice:{invioce}"), "did you mean 'invoice'?"),
        (changed("secret_arguments", ["nots"]), "did you mean 'note'?"),
        (changed("prerequisites.0.tool", "invoice.approve"), "did you mean 'invoices.approve'?"),
        (changed("entities.1.must_match.entity", "invoise"), "did you mean 'invoice'?"),
        (
            with_property("headers", NESTED, resource="thing:{Authorization}"),
            "it is inside of 'headers'",
        ),
        (
            with_property("headers", NESTED, secret_arguments=["headers.Authorisation"]),
            "did you mean 'headers.Authorization'?",
        ),
        (with_property("a", {"type": "strng"}), "did you mean 'string'?"),
        (
            changed("amount.currency_argument", ..., changed("amount.currency_code", "eur")),
            "did you mean 'EUR'?",
        ),
    ],
)
def test_message_says_what_was_probably_meant(tool: dict[str, Any], words: str) -> None:
    messages = [f.message for f in lint_tools([tool, APPROVE], is_currency=is_currency)]
    assert any(words in message for message in messages), messages


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("to", True), ("toAddress", True), ("send_to", True), ("webhook_url", True), ("IBAN", True),
        ("account_id", True),
        ("email_id", False),
        ("valid_to", False), ("total", False), ("path_type", False), ("timeout", False), ("title", False),
    ],
)  # fmt: skip
def test_names_of_targets(name: str, target: bool) -> None:
    assert looks_like_target(name) is target


def registries(value: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield every list of tools in a file: of a fixture, or of a case."""
    if isinstance(value, dict):
        tools = value.get("tools")
        if isinstance(tools, list) and tools and isinstance(tools[0], dict):
            yield tools
        for item in value.values():
            yield from registries(item)
    elif isinstance(value, list):
        for item in value:
            yield from registries(item)


SHIPPED = sorted(
    file
    for folder in ("scenarios", "examples", "tests/conformance/cases")
    for file in Path(folder).glob("*.yaml")
)


@pytest.mark.parametrize("file", SHIPPED, ids=str)
def test_what_is_shipped_has_no_errors(file: Path) -> None:
    first, *others = registries(yaml.safe_load(file.read_text(encoding="utf-8")))
    for tools in (first, *others):
        found = lint_tools(tools, is_currency=is_currency, registered=first)
        assert [finding for finding in found if finding.severity is Severity.ERROR] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(PAY)), st.sampled_from(["", "x", "0", "argument", "properties"]), JSON)
def test_nothing_raises_whatever_a_form_holds(member: str, inner: str, value: Any) -> None:
    form = copy.deepcopy(PAY) | {member: value}
    if inner and isinstance(PAY[member], dict):
        form[member] = PAY[member] | {inner: value}
    lint_tools([form, APPROVE], is_currency=is_currency)


SCHEMA_WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "allOf",
        "if",
        "then",
        "$ref",
        "additionalProperties",
        "enum",
        "a",
    ]
)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3) | st.sampled_from(["#", "#/a", "object"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCHEMA_WORDS, inner, max_size=4),
    )
)
def test_nothing_raises_whatever_a_schema_holds(schema: Any) -> None:
    lint_tools([PAY | {"arguments_schema": schema}, APPROVE], is_currency=is_currency)
