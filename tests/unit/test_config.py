"""Configuration: file, environment, flags; every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pdp.cli import app
from pdp.config import ConfigError, load_config


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
