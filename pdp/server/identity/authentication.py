"""From what the transport proved to a caller: certificates and bearer tokens.

A credential is matched to exactly one mapping of the configuration, or the call is refused.
A bearer token outranks the certificate of its connection; one that is refused is never
replaced by the certificate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from cryptography import x509

from pdp.config.callers import CallerMapping, Match, other_sides
from pdp.errors import UnauthenticatedError
from pdp.model import JSON, Caller, Role
from pdp.names import MAX_NAME
from pdp.server.identity.caller import identify
from pdp.server.identity.tokens import TokenVerifier, VerifiedToken

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator(Protocol):
    """Says who calls."""

    async def authenticate(self, context: Any) -> Caller:
        """Return the caller of an RPC. Raises `UnauthenticatedError`."""
        ...


class InsecureAuthenticator:
    """Believes what callers say of themselves in metadata. For `--insecure-dev` only."""

    async def authenticate(self, context: Any) -> Caller:
        return identify(context.invocation_metadata())


class PrincipalAuthenticator:
    """Proves principals by tokens that were issued for that."""

    def __init__(self, credentials: CredentialAuthenticator) -> None:
        self._credentials = credentials

    async def by_token(self, token: str) -> Caller:
        """Return the principal. Raises `UnauthenticatedError`."""
        return await self._credentials.principal_by_token(token)


class CredentialAuthenticator:
    """Believes certificates that TLS has verified, and tokens of the configured issuers."""

    def __init__(
        self,
        mappings: Sequence[CallerMapping],
        tokens: TokenVerifier,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` tells Unix seconds."""
        self._certificates = {m.match: m for m in mappings if m.match.by_certificate}
        self._tokens = [m for m in mappings if not m.match.by_certificate]
        self._asks_for = {
            m.match: frozenset[str]().union(*(other.agents for other in other_sides(m, mappings)))
            for m in mappings
        }
        self._named = {(m.tenant, m.subject or m.match.name) for m in mappings}
        self._verifier = tokens
        self._clock = clock

    async def authenticate(self, context: Any) -> Caller:
        token = _bearer(context.invocation_metadata())
        if token is not None:
            return await self.by_token(token)
        return self._by_certificate(context.auth_context())

    async def by_token(self, token: str) -> Caller:
        """Return who a bearer token stands for. Raises `UnauthenticatedError`."""
        return self._caller_of(await self._verifier.verify(token))

    async def principal_by_token(self, token: str) -> Caller:
        """Return the principal that a token proves, which was issued to prove one.

        It is for the audience that its issuer gives such tokens; where the issuer gives them none, its
        entry holds no role. An agent's token proves nobody. Raises `UnauthenticatedError`.
        """
        verified = await self._verifier.verify(token, principal=True)
        principal = self._caller_of(verified)
        if Role.AGENT in principal.roles or principal.agents:
            raise UnauthenticatedError("the token is an agent's own, and proves nobody")
        if verified.issuer.principal_audience is None and principal.roles:
            raise UnauthenticatedError(
                "the token was not issued to prove a principal: its entry has roles, and its issuer no "
                "principal_audience"
            )
        return principal

    def _caller_of(self, verified: VerifiedToken) -> Caller:
        """Return who a verified token stands for. Raises `UnauthenticatedError`."""
        subject = verified.claims["sub"]
        matching = [
            mapping
            for mapping in self._tokens
            if mapping.match.issuer == verified.issuer.issuer and _matches(mapping.match, verified.claims)
        ]
        mapping = _only(matching, "the token")
        tenant = mapping.tenant
        if verified.issuer.tenant_claim is not None:
            named = verified.claims.get(verified.issuer.tenant_claim)
            if not isinstance(named, str) or not _is_name(named):
                raise UnauthenticatedError(f"the token's {verified.issuer.tenant_claim} names no tenant")
            if tenant not in (None, named):
                raise UnauthenticatedError("the token is of another tenant than its mapping")
            tenant = named
        # Configuration does not know the subject of a caller that is matched by a claim. It must not be
        # one that configuration gives to somebody else, perhaps of another issuer.
        if mapping.match.claim is not None and mapping.subject is None:
            subject = verified.issuer.subject_prefix + str(subject)
            if not self._named.isdisjoint({(tenant, subject), (None, subject)}):
                raise UnauthenticatedError(
                    "the token's subject (sub) is the name of another configured caller"
                )
        return _caller(
            mapping,
            tenant,
            str(subject),
            verified.policy_claims(),
            asks_for=self._asks_for[mapping.match],
            issuer=verified.issuer.issuer,
        )

    def _by_certificate(self, auth: Mapping[str, Iterable[bytes]]) -> Caller:
        pem = next(iter(auth.get("x509_pem_cert", ())), None)
        if pem is None or list(auth.get("transport_security_type", ())) != [b"ssl"]:
            raise UnauthenticatedError("no credentials: give a bearer token, or a client certificate")
        certificate = _read(pem)
        if not certificate.not_before <= self._clock() <= certificate.not_after:
            raise UnauthenticatedError("the client certificate is not valid at this time")
        matching = [self._certificates[name] for name in certificate.names if name in self._certificates]
        mapping = _only(matching, "the client certificate")
        return _caller(
            mapping, mapping.tenant, str(mapping.match.name), {}, asks_for=self._asks_for[mapping.match]
        )


def _bearer(metadata: Metadata | None) -> str | None:
    values = [value for name, value in metadata or () if name == "authorization"]
    if not values:
        return None
    scheme, _, token = str(values[0]).partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError("metadata authorization must be given once, as: Bearer and a token")
    return token.strip()


class _Certificate(NamedTuple):
    """What counts of a client certificate. Times are Unix seconds."""

    not_before: float
    not_after: float
    # Whom it can stand for.
    names: tuple[Match, ...]


@lru_cache(maxsize=1024)
def _read(pem: bytes) -> _Certificate:
    """Read a certificate that TLS has verified. Raises `UnauthenticatedError` if it names nobody."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as exc:
        raise UnauthenticatedError("the client certificate has no readable subject alternative name") from exc
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = names.get_values_for_type(x509.DNSName)
    found = [
        Match.model_construct(spiffe_id=uri)
        # A certificate with several URIs is no SPIFFE identity (SPIFFE X509-SVID, section 2).
        for uri in (uris if len(uris) == 1 else ())
        if uri.startswith("spiffe://")
    ]
    found += [Match.model_construct(dns_name=host) for host in dict.fromkeys(hosts)]
    return _Certificate(
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        names=tuple(found),
    )


def _matches(match: Match, claims: Mapping[str, JSON]) -> bool:
    if match.claim is None:
        return match.subject == claims["sub"]
    value = claims.get(match.claim.name)
    return match.claim.value in value if isinstance(value, list) else match.claim.value == value


def _only(matching: Sequence[CallerMapping], credential: str) -> CallerMapping:
    if not matching:
        raise UnauthenticatedError(f"{credential} is valid, and stands for no configured caller")
    if len(matching) > 1:
        raise UnauthenticatedError(f"{credential} stands for more than one configured caller")
    return matching[0]


def _caller(
    mapping: CallerMapping,
    tenant: str | None,
    name: str,
    claims: Mapping[str, JSON],
    *,
    asks_for: frozenset[str],
    issuer: str = "",
) -> Caller:
    """Return the caller of a mapping. `asks_for` are the agents of a gateway's other credential."""
    subject = mapping.subject or name
    if tenant is None or not _is_name(subject):
        raise UnauthenticatedError("the credential does not name its tenant and subject")
    return Caller(
        tenant=tenant,
        subject=subject,
        roles=mapping.roles,
        agents=mapping.agents,
        tools=mapping.tools,
        audiences=mapping.audiences,
        asks_as=mapping.asks_as or "",
        asks_for=asks_for,
        claims=claims,
        issuer=issuer,
    )


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME and text.isprintable()
