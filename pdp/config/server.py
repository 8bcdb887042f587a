"""The server's configuration: a YAML file, the environment (`PLACET_…`) and flags.

Flags outrank the environment, which outranks the file. All faults are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from pdp.config.callers import CallerMapping, JwtConfig, TlsConfig, faults_of, is_loopback
from pdp.decision.fingerprint import MIN_KEY_BYTES


class ConfigError(Exception):
    """The configuration cannot be used. The message lists every fault, one a line."""


class Config(BaseSettings):
    """Everything that `pdp serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="PLACET_", extra="forbid")

    grpc_address: str = Field(
        "127.0.0.1:7433", description="where gRPC listens: host:port, port 0 for a free one"
    )
    grpc_token_address: str | None = Field(
        None,
        description="where gRPC listens as well, for callers with a token and no client certificate",
    )
    http_address: str = Field(
        "127.0.0.1:7434", description="where health, metrics and keys are served over HTTP"
    )
    database_url: str = Field(description="PostgreSQL connection string (libpq URL or keywords)")
    database_role: str = Field("placet_server", description="role that the server takes on in the database")
    opa_socket: Path = Field(description="unix socket of the OPA sidecar")
    opa_token_file: Path = Field(description="file with the bearer token of decisions, over opa_socket")
    opa_admin_url: str = Field(
        description="OPA's second address, for health and status: http://127.0.0.1:8181"
    )
    opa_admin_token_file: Path = Field(description="file with the bearer token of opa_admin_url")
    fingerprint_key_file: Path = Field(
        description=f"file with at least {MIN_KEY_BYTES} random bytes, the same on every replica, "
        "never in the database"
    )
    issuer: str = Field("placet", min_length=1, max_length=256, description="`iss` of receipts")
    replica: str = Field(
        "pdp", min_length=1, max_length=64, description="name of this replica, in writers and keys"
    )
    insecure_dev: bool = Field(
        False, description="callers name themselves in metadata; on loopback only, never in production"
    )
    tls: TlsConfig | None = Field(
        None, description="the server's certificate, and the authorities of its clients' certificates"
    )
    jwt: tuple[JwtConfig, ...] = Field((), description="issuers whose bearer tokens are believed")
    callers: tuple[CallerMapping, ...] = Field(
        (),
        description="what each credential stands for: tenant, subject, roles, agents, tools, audiences",
    )
    principal_tokens: Literal["optional", "required"] = Field(
        "optional",
        description="required: whoever opens a session proves its principal by a token of an issuer in `jwt`",
    )
    reflection: bool = Field(False, description="serve gRPC reflection")
    clock: Literal["system", "manual"] = Field(
        "system", description="manual: the database's clock can be moved, with insecure_dev only"
    )
    drain_seconds: float = Field(20.0, ge=0, le=600, description="how long SIGTERM waits for calls in flight")
    max_in_flight: int = Field(
        1024, ge=1, le=65_536, description="decisions in flight at most; further calls are turned away"
    )
    calls_per_connection: int = Field(
        64, ge=1, le=65_536, description="calls of one connection at once; further ones are reset"
    )
    control_writes_per_second: float = Field(
        10.0, gt=0, le=10_000, description="writes of one tenant's settings, agents, tools, signals, issuers"
    )
    entity_writes_per_second: float = Field(
        100.0, gt=0, le=10_000, description="writes of entities by one credential"
    )
    key_rotation_hours: float = Field(12.0, gt=0, le=24, description="age at which a signing key is replaced")
    log_format: Literal["json", "console"] = Field("json", description="how logs are written, to stderr")

    @field_validator("grpc_address", "grpc_token_address", "http_address")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("opa_token_file", "opa_admin_token_file", "fingerprint_key_file")
    @classmethod
    def _is_readable(cls, value: Path) -> Path:
        if not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("fingerprint_key_file")
    @classmethod
    def _is_long_enough(cls, value: Path) -> Path:
        if value.is_file() and len(value.read_bytes()) < MIN_KEY_BYTES:
            raise ValueError(f"{value} has fewer than {MIN_KEY_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _is_authenticated(self) -> Self:
        authenticated = bool(self.tls and self.tls.client_ca_file) or bool(self.jwt)
        faults = faults_of(self.tls, self.jwt, self.callers)
        if self.insecure_dev and (self.tls is not None or self.jwt or self.callers):
            faults.append("insecure_dev cannot be combined with tls, jwt and callers")
        elif not self.insecure_dev and not authenticated:
            faults.append(
                "no authentication is configured: give tls.client_ca_file or jwt, and callers; or, on "
                "loopback, insecure_dev (--insecure-dev), where callers name themselves"
            )
        if self.grpc_token_address is not None and not (self.tls and self.tls.client_ca_file and self.jwt):
            faults.append(
                "grpc_token_address is for jwt beside tls.client_ca_file; without both, "
                "grpc_address serves all callers"
            )
        if self.clock == "manual" and not self.insecure_dev:
            faults.append("clock: manual is for tests, and needs insecure_dev")
        if self.principal_tokens == "required" and not self.jwt:
            faults.append("principal_tokens is required, and jwt lists no issuer of them")
        for name in ("grpc_address", "http_address"):
            host, _ = split_address(getattr(self, name))
            if is_loopback(host):
                continue
            if self.insecure_dev:
                faults.append(f"insecure_dev accepts loopback addresses only, and {name} is {host}")
            elif self.tls is None:
                faults.append(f"{name} is {host}: other than loopback addresses need tls")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_config(file: Path | None, flags: dict[str, Any]) -> Config:
    """Return the configuration; `flags` holds only what was given. Raises `ConfigError`."""
    if file is not None and not file.is_file():
        raise ConfigError(f"{file}: there is no such file")

    class FileConfig(Config):
        model_config = SettingsConfigDict(env_prefix="PLACET_", extra="forbid", yaml_file=file)

    try:
        return FileConfig(**flags)
    except ValidationError as exc:
        raise ConfigError("\n".join(map(_fault, exc.errors()))) from exc
    except SettingsError as exc:
        raise ConfigError(f"environment: {exc}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{file}: is not YAML: {exc}") from exc


def _fault(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "configuration"
    lines = error["msg"].removeprefix("Value error, ").splitlines()
    return "\n".join(f"{where}: {line}" for line in lines)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
