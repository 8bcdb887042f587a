"""Configuration: file, environment, flags; every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pdp.cli import app
from pdp.config.callers import serving_nothing
from pdp.config.server import ConfigError, load_config
from pdp.model import Role


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    for name in ("token", "admin", "key"):
        (tmp_path / name).write_bytes(b"x" * 32)
    return {
        "database_url": "postgresql://localhost/placet",
        "opa_socket": str(tmp_path / "opa.sock"),
        "opa_token_file": str(tmp_path / "token"),
        "opa_admin_url": "http://127.0.0.1:8181",
        "opa_admin_token_file": str(tmp_path / "admin"),
        "fingerprint_key_file": str(tmp_path / "key"),
        "insecure_dev": True,
    }


def written(tmp_path: Path, settings: dict[str, Any]) -> Path:
    file = tmp_path / "pdp.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_flags_outrank_environment_which_outranks_the_file(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, {**settings, "replica": "file", "issuer": "file", "grpc_address": "127.0.0.1:1"})
    monkeypatch.setenv("PLACET_REPLICA", "environment")
    monkeypatch.setenv("PLACET_ISSUER", "environment")
    config = load_config(file, {"replica": "flag"})
    assert (config.replica, config.issuer, config.grpc_address) == ("flag", "environment", "127.0.0.1:1")


def test_every_fault_is_reported(tmp_path: Path, settings: dict[str, Any]) -> None:
    del settings["database_url"]
    settings |= {"grpc_address": "nowhere", "opa_token_file": str(tmp_path / "none"), "colour": "red"}
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, settings), {})
    text = str(caught.value)
    for name in ("database_url", "grpc_address", "opa_token_file", "colour"):
        assert name in text
    assert len(text.splitlines()) == 4


def test_server_without_authentication_refuses_to_start(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["insecure_dev"] = False
    with pytest.raises(ConfigError, match="no authentication is configured"):
        load_config(written(tmp_path, settings), {})


@pytest.mark.parametrize("address", ["0.0.0.0:7433", "10.0.0.1:7433", "[::]:7433", "example.org:7433"])
def test_insecure_dev_is_for_loopback_only(tmp_path: Path, settings: dict[str, Any], address: str) -> None:
    settings["grpc_address"] = address
    with pytest.raises(ConfigError, match="loopback"):
        load_config(written(tmp_path, settings), {})


def test_short_fingerprint_key_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(ConfigError, match="fewer than 32"):
        load_config(written(tmp_path, settings), {})


def test_serve_ends_with_2_and_lists_the_faults(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--config", str(written(tmp_path, {"colour": "red"}))])
    assert result.exit_code == 2
    assert "database_url" in result.output
    assert "colour" in result.output
    assert "Traceback" not in result.output
    missing = CliRunner().invoke(app, ["serve", "--config", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "no such file" in missing.output


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["dev"], ["bundle", "build"]])
def test_help_has_examples(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output


@pytest.fixture
def callers(tmp_path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a server that believes certificates and tokens."""
    del settings["insecure_dev"]
    issuer = {"issuer": "https://id", "audience": "placet", "jwks_url": "https://id/jwks"}
    file = str(tmp_path / "key")
    return settings | {
        "grpc_address": "0.0.0.0:7433",
        "tls": {
            "certificate_file": file,
            "key_file": file,
            "client_ca_file": file,
            "require_client_certificate": True,
        },
        "jwt": [issuer | {"algorithms": ["ES256"]}],
        "callers": [
            {"match": {"spiffe_id": "spiffe://x/a"}, "tenant": "acme", "roles": ["agent"], "agents": ["a"]},
            {"match": {"issuer": "https://id", "subject": "s"}, "tenant": "acme", "roles": ["operator"]},
        ],
    }


def test_real_callers_may_come_from_elsewhere_over_tls(tmp_path: Path, callers: dict[str, Any]) -> None:
    config = load_config(written(tmp_path, callers), {})
    assert [mapping.tenant for mapping in config.callers] == ["acme", "acme"]
    del callers["tls"], callers["callers"][0]
    with pytest.raises(ConfigError, match="need tls"):
        load_config(written(tmp_path, callers), {})
    load_config(written(tmp_path, callers), {"grpc_address": "127.0.0.1:0"})


def test_credential_of_a_tool_that_serves_nothing_is_named(tmp_path: Path, callers: dict[str, Any]) -> None:
    served = [{"tools": ["payments.*"], "audiences": ["erp"]}, {"tools": ["payments.create"]}, {}]
    callers["callers"] += [
        {"match": {"dns_name": f"t{n}"}, "tenant": "acme", "roles": ["tool"]} | said
        for n, said in enumerate(served)
    ]
    config = load_config(written(tmp_path, callers), {})
    assert config.callers[2].tools == {"payments.*"}
    assert [line.partition(",")[0] for line in serving_nothing(config.callers)] == [
        "callers.3: names no audiences",
        "callers.4: names no tools",
        "callers.4: names no audiences",
    ]


@pytest.mark.parametrize(
    "served",
    [
        {"tools": ["p*y"]},
        {"tools": ["*pay"]},
        {"tools": ["**"]},
        {"tools": ["pay", "*.create*"]},
        {"tools": [" pay"]},
        {"tools": ["p\nay"]},
        {"audiences": ["*"]},
        {"audiences": ["erp*"]},
        {"audiences": ["e" * 257]},
        {"roles": ["agent"], "agents": ["agent:*"]},
    ],
    ids=str,
)
def test_name_that_names_nothing_is_refused(
    tmp_path: Path, callers: dict[str, Any], served: dict[str, Any]
) -> None:
    match = {"match": {"dns_name": "t"}, "tenant": "acme", "roles": ["tool"]}
    callers["callers"].append(match | served)
    field = next(name for name in served if name != "roles")
    with pytest.raises(ConfigError, match=rf"callers\.2: .*{field}: "):
        load_config(written(tmp_path, callers), {})


@pytest.mark.parametrize(
    ("asks_as", "tenant", "agrees"),
    [("spiffe://x/a", "acme", True), ("s", "acme", False), ("spiffe://x/a", "globex", False)],
)
def test_gateway_is_paired_with_an_agents_credential_of_its_tenant(
    tmp_path: Path, callers: dict[str, Any], asks_as: str, tenant: str, agrees: bool
) -> None:
    callers["callers"].append(
        {"match": {"dns_name": "gw"}, "tenant": tenant, "roles": ["tool"], "asks_as": asks_as}
    )
    if agrees:
        load_config(written(tmp_path, callers), {})
        return
    with pytest.raises(ConfigError, match=r"callers\.2: asks_as names"):
        load_config(written(tmp_path, callers), {})


def test_insecure_dev_stands_alone(tmp_path: Path, callers: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be combined"):
        load_config(written(tmp_path, callers), {"insecure_dev": True, "grpc_address": "127.0.0.1:0"})


def test_every_fault_of_the_callers_is_reported(tmp_path: Path, callers: dict[str, Any]) -> None:
    del callers["tls"]
    match = {"dns_name": "x"}
    callers["callers"] += [
        {"match": match, "subject": "s", "tenant": "acme", "roles": ["agent"]},
        {"match": match, "subject": "s", "roles": ["reviewer"]},
        {"match": {"issuer": "https://other", "subject": "s"}, "tenant": "acme", "roles": ["reviewer"]},
        {"match": {"dns_name": "y"}, "subject": "t", "tenant": "acme", "roles": ["session_issuer"]},
        {"match": {"dns_name": "z"}, "subject": "t", "tenant": "acme", "roles": ["agent"]},
    ]
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, callers), {})
    lines = str(caught.value).splitlines()
    for text in (
        "callers.0: matches a certificate",
        "callers.3: matches the same credential as callers.2",
        "callers.3: tenant is missing",
        "callers.4: matches the issuer https://other",
        "callers.4: its subject would hold both agent and reviewer",
        "callers.6: its subject would hold both agent and session_issuer",
        "grpc_address is 0.0.0.0",
    ):
        assert sum(text in line for line in lines) == 1, text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("callers.0.roles", ["agent", str(other)]) for other in Role if other is not Role.AGENT),
        ("callers.1.roles", ["reviewer", "operator"]),
        ("callers.1.roles", ["reviewer", "auditor", "policy_author"]),
        ("callers.0.roles", ["emperor"]),
        # What an agent's credential cannot serve.
        ("callers.0.tools", ["payments.create"]),
        ("callers.0.audiences", ["erp"]),
        ("callers.0.asks_as", "s"),
        ("callers.0.match", {}),
        ("callers.0.match", {"spiffe_id": "spiffe://x/a", "dns_name": "x"}),
        ("callers.0.match", {"spiffe_id": "x"}),
        ("callers.0.match", {"dns_name": "x", "subject": "s"}),
        ("callers.1.match", {"issuer": "https://id"}),
        ("callers.0.color", "red"),
        ("jwt.0.principal_audience", "placet"),
        ("jwt.0.algorithms", []),
        ("jwt.0.algorithms", ["none"]),
        ("jwt.0.algorithms", ["HS256"]),
        ("jwt.0.jwks_url", "http://id/jwks"),
        ("jwt.0.jwks_url", "file:///etc/passwd"),
        ("jwt.0.jwks_file", "/nowhere"),
        ("jwt.0.leeway_seconds", 301),
        ("tls.key_file", "/nowhere"),
        ("tls.require_client_certificate", False),
    ],
)
def test_caller_that_makes_no_sense_is_refused(
    tmp_path: Path, callers: dict[str, Any], path: str, value: Any
) -> None:
    *parents, last = path.split(".")
    place: Any = callers
    for name in parents:
        place = place[int(name) if name.isdecimal() else name]
    place[last] = value
    with pytest.raises(ConfigError, match=rf"^{path.split('.')[0]}\b"):
        load_config(written(tmp_path, callers), {})


def two_issuers(callers: dict[str, Any], *prefixes: str, tenants: tuple[str, str]) -> dict[str, Any]:
    """Two issuers whose tokens name subjects themselves."""
    (issuer,) = callers["jwt"]
    named = zip(("https://id", "https://other"), prefixes, tenants, strict=True)
    callers["jwt"], callers["callers"] = [], callers["callers"][:1]
    for name, prefix, tenant in named:
        callers["jwt"].append(issuer | {"issuer": name, "subject_prefix": prefix})
        match = {"issuer": name, "claim": {"name": "groups", "value": "people"}}
        callers["callers"].append({"match": match, "tenant": tenant})
    return callers


@pytest.mark.parametrize("prefixes", [("", ""), ("", "b/"), ("a", "ab"), ("x", "x")])
def test_two_people_of_one_name_are_not_taken_for_one(
    tmp_path: Path, callers: dict[str, Any], prefixes: tuple[str, str]
) -> None:
    settings = two_issuers(callers, *prefixes, tenants=("acme", "acme"))
    with pytest.raises(ConfigError, match=r"jwt\.1: .* could name one subject"):
        load_config(written(tmp_path, settings), {})


def test_issuers_whose_names_cannot_meet_need_no_prefix(tmp_path: Path, callers: dict[str, Any]) -> None:
    load_config(written(tmp_path, two_issuers(callers, "a/", "b/", tenants=("acme", "acme"))), {})
    callers["jwt"] = callers["jwt"][:1]
    load_config(written(tmp_path, two_issuers(callers, "", "", tenants=("acme", "globex"))), {})
    # A subject that configuration gives is configuration's to give twice.
    callers["jwt"] = callers["jwt"][:1]
    settings = two_issuers(callers, "", "", tenants=("acme", "acme"))
    for mapping in settings["callers"][1:]:
        mapping["subject"] = "people"
    load_config(written(tmp_path, settings), {})


def test_subjects_of_two_issuers_with_one_name_are_told_apart(
    tmp_path: Path, callers: dict[str, Any]
) -> None:
    settings = two_issuers(callers, "", "", tenants=("acme", "acme"))
    for mapping in settings["callers"][1:]:
        mapping["match"] = {"issuer": mapping["match"]["issuer"], "subject": "anna"}
    with pytest.raises(ConfigError, match=r"callers\.2: has the subject of callers\.1"):
        load_config(written(tmp_path, settings), {})
    settings["callers"][2]["subject"] = "other-anna"
    load_config(written(tmp_path, settings), {})


def test_principals_cannot_have_to_prove_themselves_to_nobody(
    tmp_path: Path, callers: dict[str, Any]
) -> None:
    callers["principal_tokens"] = "required"
    load_config(written(tmp_path, callers), {})
    callers["jwt"], callers["callers"] = [], callers["callers"][:1]
    with pytest.raises(ConfigError, match="jwt lists no issuer"):
        load_config(written(tmp_path, callers), {})


def test_unreadable_environment_is_a_fault(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACET_CALLERS", "not JSON")
    with pytest.raises(ConfigError, match="callers"):
        load_config(written(tmp_path, settings), {})


def test_clock_that_can_be_moved_is_for_insecure_dev_alone(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["clock"] = "manual"
    assert load_config(written(tmp_path, settings), {}).clock == "manual"
    settings["insecure_dev"] = False
    with pytest.raises(ConfigError, match="clock: manual is for tests, and needs insecure_dev"):
        load_config(written(tmp_path, settings), {})
