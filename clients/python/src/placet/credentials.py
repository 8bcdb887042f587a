"""Proof of who calls: a client certificate, a bearer token, or both; always over TLS."""

from __future__ import annotations

import os
import ssl
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
        _check_files(ca_file, certificate_file, key_file)
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


def _check_files(
    ca_file: PathName | None, certificate_file: PathName | None, key_file: PathName | None
) -> None:
    """Raise ValueError for files that no TLS connection can be made with: gRPC would say so call by call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What is asked is whether they can be read, not whether they are strong enough.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    for name, file in (("ca_file", ca_file), ("certificate_file", certificate_file), ("key_file", key_file)):
        _read(name, file)
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as exc:
            raise ValueError(f"ca_file: {os.fspath(ca_file)} holds no certificate in PEM") from exc
    if certificate_file is not None and key_file is not None:
        names = f"{os.fspath(certificate_file)} and {os.fspath(key_file)}"
        try:
            # The password is for keys that are encrypted, which gRPC cannot read.
            context.load_cert_chain(certificate_file, key_file, password="")
        except ssl.SSLError as exc:
            raise ValueError(
                f"certificate_file and key_file: {names} must be a certificate and its own key, in PEM, the "
                f"key not encrypted ({exc.reason})"
            ) from exc


def _can_be_sent(token: object) -> bool:
    return (
        isinstance(token, str)
        and token.isascii()
        and token.isprintable()
        and bool(token)
        and " " not in token
    )
