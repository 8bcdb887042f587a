"""Why no connection came about, in words that somebody can act on; gRPC's own follow them."""

from __future__ import annotations

# What gRPC and BoringSSL say, and what that means to whoever set up the client or the server.
_CAUSES = (
    (
        "Hostname Verification Check failed",
        "the server's certificate is not for this host name: call the server by a name that the certificate "
        "has, or issue one for this name",
    ),
    (
        "certificate has expired",
        "the server's certificate, or an authority's of it, has expired: renew it, unless this machine's "
        "clock is wrong",
    ),
    (
        "certificate is not yet valid",
        "the server's certificate, or an authority's of it, is not valid yet: check this machine's clock",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the server's certificate is not from an authority that this client believes: give the authority's "
        "certificate as ca_file (--ca)",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS on this port: give the port on which it does, or, for a server in "
        "--insecure-dev, an identity in place of credentials",
    ),
    (
        "Failed to create security handshaker",
        "the client's certificate cannot be used: certificate_file and key_file must belong together, in PEM",
    ),
    (
        "Tls handshake failed",
        "no TLS connection came about: the server may not speak TLS on this port, or demand what this client "
        "does not offer",
    ),
)
# A server that turns a connection away in TLS 1.3 says so after the client's handshake, and gRPC hears no
# more than the end.
_ENDED = ("Socket closed", "Connection reset", "Broken pipe", "connection closed")
_ENDED_TLS = (
    "the server ended the connection at once: it may demand a client certificate (certificate_file and "
    "key_file, or --cert and --key), and refuse one that has expired or is not from an authority that it "
    "believes; its log names the cause"
)
_ENDED_PLAIN = (
    "the server ended the connection at once: it may speak TLS on this port, for which a client needs "
    "credentials (TlsCredentials, or --ca with --token or --cert)"
)
# How gRPC begins when no address could be connected to; a call that was under way begins otherwise.
_UNCONNECTED = "connections to all backends failing"


def connection_problem(details: str, *, tls: bool) -> str:
    """Return what the operator has to know about a failed connection; empty where gRPC's words are enough.

    `details` are those of a call that failed as UNAVAILABLE; `tls` says whether the client spoke TLS.
    """
    for words, meaning in _CAUSES:
        if words in details:
            return meaning
    if _UNCONNECTED in details and any(words in details for words in _ENDED):
        return _ENDED_TLS if tls else _ENDED_PLAIN
    return ""
