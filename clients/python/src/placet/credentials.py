"""Proof of who calls: a client certificate, a bearer token, or both; always over TLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc

from placet.errors import UnauthenticatedError

PathName = str | os.PathLike[str]


class TlsCredentials:
    """Checks the server's certificate and presents the caller's own credentials.

    `ca_file`: the authorities that servers are believed by, PEM; without, those that gRPC brings.
    `certificate_file` and `key_file`: the client's certificate. `token`: a bearer token, or a
    function that returns one; it is asked for each call, so it has to be quick and may renew.
    """

    __slots__ = ("_credentials", "_token")

    def __init__(
        self,
        *,
        ca_file: PathName | None = None,
        certificate_file: PathName | None = None,
        key_file: PathName | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        """Reads the files. Raises ValueError for what cannot be used."""
        if (certificate_file is None) != (key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if certificate_file is None and token is None:
            raise ValueError("give a certificate or a token: the PDP must know who calls")
        self._credentials = grpc.ssl_channel_credentials(
            root_certificates=_read("ca_file", ca_file),
            private_key=_read("key_file", key_file),
            certificate_chain=_read("certificate_file", certificate_file),
        )
        if isinstance(token, str) and not _can_be_sent(token):
            raise ValueError("token must be printable ASCII without spaces")
        self._token = token

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return self._credentials

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call. Raises `UnauthenticatedError` if there is no token to send."""
        if self._token is None:
            return ()
        if isinstance(self._token, str):
            token = self._token
        else:
            try:
                token = self._token()
            except Exception as exc:
                raise UnauthenticatedError(f"there is no token to call with: {type(exc).__name__}") from exc
        if not _can_be_sent(token):
            raise UnauthenticatedError("the token to call with is not printable ASCII without spaces")
        return (("authorization", f"Bearer {token}"),)


def token_from(file: PathName) -> Callable[[], str]:
    """Return a source of tokens that reads the file for each call, so that it may be replaced."""
    path = Path(file)
    return lambda: path.read_text(encoding="ascii").strip()


def _read(name: str, file: PathName | None) -> bytes | None:
    if file is None:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise ValueError(f"{name}: cannot read {os.fspath(file)}: {exc.strerror}") from exc


def _can_be_sent(token: object) -> bool:
    return (
        isinstance(token, str)
        and token.isascii()
        and token.isprintable()
        and bool(token)
        and " " not in token
    )
