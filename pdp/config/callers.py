"""Who may call, as configuration says it: TLS, issuers of tokens, and what each credential stands for."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pdp.errors import InvalidFieldError
from pdp.model import ROLES_APART, Role
from pdp.names import optional_name

# Asymmetric only: with a shared secret, whoever can check a token could make one. EdDSA and Ed25519 are two
# names of one algorithm (RFC 9864); no other curve is accepted under the older one.
Algorithm = Literal[
    "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", "Ed25519"
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsConfig(_Strict):
    """The server's certificate, and the authorities of its clients' certificates. Files are PEM."""

    certificate_file: Path
    key_file: Path
    # Authorities whose client certificates are believed. gRPC asks a client for its certificate only
    # where `require_client_certificate` is true.
    client_ca_file: Path | None = None
    require_client_certificate: bool = False

    @field_validator("certificate_file", "key_file", "client_ca_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        return _file(value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.client_ca_file is not None) != self.require_client_certificate:
            raise ValueError("client_ca_file and require_client_certificate: true go together")
        return self


class JwtConfig(_Strict):
    """One issuer whose bearer tokens are believed."""

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    # The audience of tokens that prove a principal. Without it, those prove one whose entry holds no role.
    principal_audience: str | None = Field(None, min_length=1)
    jwks_file: Path | None = None
    jwks_url: str | None = None
    algorithms: tuple[Algorithm, ...] = Field(min_length=1)
    leeway_seconds: int = Field(30, ge=0, le=300)
    # How old keys may become while the issuer cannot be asked for new ones.
    jwks_max_age_seconds: int = Field(3600, ge=60, le=86_400)
    # The claim that names the tenant. With it a mapping may leave the tenant out; one that names a tenant
    # must agree with the claim.
    tenant_claim: str | None = Field(None, min_length=1)
    # Claims that become input to policy, beside the scopes.
    claims: tuple[str, ...] = ()
    # Put before the subjects that this issuer's tokens name and no mapping does. It keeps apart two people
    # who have one name at two issuers.
    subject_prefix: str = Field("", max_length=128)

    @field_validator("jwks_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        return _file(value)

    @field_validator("jwks_url")
    @classmethod
    def _is_safe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = urlsplit(value)
        if url.hostname and (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname))):
            return value
        raise ValueError("must be an https address, or http on loopback")

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("give exactly one of jwks_file and jwks_url")
        return self

    @model_validator(mode="after")
    def _keeps_principals_apart(self) -> Self:
        if self.principal_audience == self.audience:
            raise ValueError("principal_audience must be another than audience, which callers' tokens have")
        return self


class ClaimMatch(_Strict):
    """The claim is this text, or a list that holds it."""

    name: str = Field(min_length=1)
    value: str = Field(min_length=1)


class Match(_Strict):
    """The one credential that a mapping is for. Names are compared as they are written."""

    spiffe_id: str | None = Field(None, pattern=r"^spiffe://[^/]+/.+$")
    dns_name: str | None = Field(None, min_length=1)
    issuer: str | None = Field(None, min_length=1)
    subject: str | None = Field(None, min_length=1)
    claim: ClaimMatch | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if [self.spiffe_id, self.dns_name, self.issuer].count(None) != 2:
            raise ValueError("give exactly one of spiffe_id, dns_name and issuer")
        given = [self.subject, self.claim].count(None)
        if given != (2 if self.issuer is None else 1):
            raise ValueError(
                "an issuer comes with exactly one of subject and claim; a certificate with neither"
            )
        return self

    @property
    def by_certificate(self) -> bool:
        return self.issuer is None

    @property
    def name(self) -> str | None:
        """The credential's own name, as far as configuration knows it."""
        return self.spiffe_id or self.dns_name or self.subject


def _both(roles: frozenset[Role]) -> str:
    return " and ".join(sorted(roles))


class CallerMapping(_Strict):
    """What a credential stands for."""

    match: Match
    tenant: str | None = Field(None, min_length=1, max_length=256)
    # None: the subject is the credential's own name.
    subject: str | None = Field(None, min_length=1, max_length=256)
    roles: frozenset[Role] = frozenset()
    agents: frozenset[str] = frozenset()
    # What a credential with role tool serves. A "*" at the end of a tool's name stands for any end.
    tools: frozenset[str] = frozenset()
    audiences: frozenset[str] = frozenset()
    # A gateway's other credential, by its subject: the agent's, whose allows this one may redeem.
    asks_as: str | None = Field(None, min_length=1, max_length=256)

    @model_validator(mode="after")
    def _is_separate(self) -> Self:
        for apart in ROLES_APART:
            if apart <= self.roles:
                raise ValueError(f"one identity cannot hold both {_both(apart)}")
        return self

    @model_validator(mode="after")
    def _names_what_there_can_be(self) -> Self:
        for field, names in (("agents", self.agents), ("tools", self.tools), ("audiences", self.audiences)):
            for one in sorted(names):
                full = one.removesuffix("*") if field == "tools" else one
                if "*" in full:
                    only = (
                        "; only at the end of a tool's name a * stands for any end"
                        if field == "tools"
                        else ""
                    )
                    raise ValueError(f"{field}: {one} names none, as each is named in full{only}")
                try:
                    optional_name(one, field)
                except InvalidFieldError as exc:
                    raise ValueError(f"{field}: {one!r} {exc.reason}") from exc
        return self

    @model_validator(mode="after")
    def _serves_as_a_tool(self) -> Self:
        for field, names in (("tools", self.tools), ("audiences", self.audiences)):
            if names and Role.TOOL not in self.roles:
                raise ValueError(f"{field} are what a credential with role tool serves")
            if not all(names):
                raise ValueError(f"{field} must not have an empty name")
        if self.asks_as is not None and Role.TOOL not in self.roles:
            raise ValueError("asks_as is for a credential with role tool")
        return self


def faults_of(
    tls: TlsConfig | None, issuers: Sequence[JwtConfig], mappings: Sequence[CallerMapping]
) -> list[str]:
    """Return what is wrong between the parts, each fault a line."""
    faults = []
    by_issuer = {issuer.issuer: issuer for issuer in issuers}
    if len(by_issuer) != len(issuers):
        faults.append("jwt: an issuer is given twice")
    seen: dict[Match, int] = {}
    named: list[tuple[str | None, str, frozenset[Role]]] = []
    for number, mapping in enumerate(mappings):
        match, where = mapping.match, f"callers.{number}"
        if match in seen:
            faults.append(f"{where}: matches the same credential as callers.{seen[match]}")
        seen.setdefault(match, number)
        issuer = by_issuer.get(match.issuer or "")
        if match.by_certificate and (tls is None or tls.client_ca_file is None):
            faults.append(f"{where}: matches a certificate, and tls.client_ca_file is not set")
        if not match.by_certificate and issuer is None:
            faults.append(f"{where}: matches the issuer {match.issuer}, which jwt does not list")
        if mapping.tenant is None and (issuer is None or issuer.tenant_claim is None):
            faults.append(f"{where}: tenant is missing, and no tenant_claim names it")
        if subject := mapping.subject or match.name:
            # A mapping without a tenant may stand for a caller of any tenant.
            held = [mapping.roles] + [
                roles
                for tenant, name, roles in named
                if name == subject and (tenant == mapping.tenant or None in (tenant, mapping.tenant))
            ]
            faults += [
                f"{where}: its subject would hold both {_both(apart)}"
                for apart in ROLES_APART
                if apart <= frozenset().union(*held)
            ]
            named.append((mapping.tenant, subject, mapping.roles))
    faults += [
        f"callers.{number}: asks_as names {mapping.asks_as}, which is no agent's subject in the tenant"
        for number, mapping in enumerate(mappings)
        if mapping.asks_as is not None and not other_sides(mapping, mappings)
    ]
    faults += _ambiguous(issuers, mappings)
    if (issuers or tls is not None) and not mappings:
        faults.append("callers: is empty, so nobody could call")
    return faults


def other_sides(gateway: CallerMapping, mappings: Sequence[CallerMapping]) -> list[CallerMapping]:
    """Return the agents' entries that a gateway's entry is paired with."""
    return [
        mapping
        for mapping in mappings
        if gateway.asks_as is not None
        and Role.AGENT in mapping.roles
        and gateway.asks_as == (mapping.subject or mapping.match.name)
        and (gateway.tenant == mapping.tenant or None in (gateway.tenant, mapping.tenant))
    ]


def serving_nothing(mappings: Sequence[CallerMapping]) -> list[str]:
    """Return which mappings of tools serve nothing, each with what is missing."""
    return [
        f"callers.{number}: names no {field}, so it {what}"
        for number, mapping in enumerate(mappings)
        if Role.TOOL in mapping.roles
        for field, what in (
            ("tools", "serves nothing: it redeems nothing, and no report of its is taken"),
            ("audiences", "redeems nothing, and reports on no receipt that is for somebody"),
        )
        if not getattr(mapping, field)
    ]


def _ambiguous(issuers: Sequence[JwtConfig], mappings: Sequence[CallerMapping]) -> list[str]:
    """Return how one subject could be two people, whom two issuers call by one name."""
    faults = []
    # The tenants in which each issuer's tokens name their own subjects; None among them means any tenant.
    tenants: dict[str | None, set[str | None]] = {}
    for mapping in mappings:
        if mapping.match.claim is not None and mapping.subject is None:
            tenants.setdefault(mapping.match.issuer, set()).add(mapping.tenant)
    naming = [(number, issuer) for number, issuer in enumerate(issuers) if issuer.issuer in tenants]
    for place, (number, issuer) in enumerate(naming):
        for other, earlier in naming[:place]:
            ours, theirs = tenants[issuer.issuer], tenants[earlier.issuer]
            prefix, their_prefix = issuer.subject_prefix, earlier.subject_prefix
            if (ours & theirs or None in ours | theirs) and (
                prefix.startswith(their_prefix) or their_prefix.startswith(prefix)
            ):
                faults.append(
                    f"jwt.{number}: its tokens and those of jwt.{other} could name one subject: give both a "
                    "subject_prefix, of which neither begins with the other"
                )
    by_subject: dict[tuple[str | None, str], int] = {}
    for number, mapping in enumerate(mappings):
        if mapping.match.subject is None or mapping.subject is not None:
            continue
        key = (mapping.tenant, mapping.match.subject)
        if key in by_subject:
            faults.append(
                f"callers.{number}: has the subject of callers.{by_subject[key]}, of another issuer: "
                "give one of them a subject of its own"
            )
        by_subject.setdefault(key, number)
    return faults


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _file(value: Path | None) -> Path | None:
    if value is not None and not value.is_file():
        raise ValueError(f"there is no file {value}")
    return value
