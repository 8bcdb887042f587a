"""The server's certificate and its clients' authorities, read again when their files change."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from pdp.config.callers import TlsConfig
from pdp.metrics import Metrics

_LOG = structlog.get_logger("pdp.server")
_SOURCE = "tls"


class CertificateError(Exception):
    """The files cannot be used. The message says which, and why."""


class ServerCertificates:
    """Makes the TLS credentials of the server's ports. Each new connection gets the files as they are then.

    If the files cannot be used, or do not fit together, the ones before stay in use: the log says so
    once for each state of the files, and a metric counts it. Connections that exist are left alone.
    """

    def __init__(self, tls: TlsConfig, metrics: Metrics, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells Unix seconds. Raises `CertificateError`."""
        self._tls = tls
        self._metrics = metrics
        self._clock = clock
        # gRPC asks for changes from threads of its own.
        self._lock = threading.Lock()
        self._seen = self._state()
        self._current = self._read()

    def credentials(self, *, require_client_certificate: bool) -> grpc.ServerCredentials:
        """Return the credentials of one port."""
        given = self._current

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            current = self._refreshed()
            if current is given:
                return None
            given = current
            return current

        return grpc.dynamic_ssl_server_credentials(
            given,
            changed,  # type: ignore[arg-type]  # None says that nothing changed; the stub does not know it
            require_client_certificate,
        )

    def http_context(self) -> ssl.SSLContext:
        """Return the context of a port that asks no client for a certificate."""
        given, serving = self._current, self._context()
        listening = self._context()

        def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            """Let a handshake go on with the files as they are now, whatever name it asks for."""
            nonlocal given, serving
            current = self._refreshed()
            if current is not given:
                try:
                    serving, given = self._context(), current
                except (OSError, ssl.SSLError) as exc:
                    # The files were replaced once more since they were read; the next connection tries again.
                    _LOG.warning("certificates_unusable", error=f"{type(exc).__name__}: for HTTP")
            connection.context = serving

        listening.sni_callback = choose
        return listening

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._tls.certificate_file, self._tls.key_file)
        return context

    def _refreshed(self) -> grpc.ServerCertificateConfiguration:
        with self._lock:
            state = self._state()
            if state != self._seen:
                self._seen = state
                try:
                    self._current = self._read()
                except CertificateError as exc:
                    self._metrics.credentials_read(_SOURCE, ok=False)
                    _LOG.error("certificates_unusable", error=str(exc))
                else:
                    _LOG.info("certificates_replaced")
            return self._current

    def _state(self) -> list[tuple[int, ...]]:
        return [
            file_state(file)
            for file in (self._tls.certificate_file, self._tls.key_file, self._tls.client_ca_file)
            if file is not None
        ]

    def _read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        chain, key = _bytes("certificate_file", tls.certificate_file), _bytes("key_file", tls.key_file)
        leaf = _certificates("certificate_file", chain)[0]
        if not leaf.not_valid_before_utc.timestamp() <= self._clock() <= leaf.not_valid_after_utc.timestamp():
            raise CertificateError("tls.certificate_file: is not valid at this time")
        try:
            public = serialization.load_pem_private_key(key, password=None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
            raise CertificateError("tls.key_file: is not a PEM private key without a passphrase") from exc
        if public != leaf.public_key():
            raise CertificateError("tls.key_file: is not the key of certificate_file")
        authorities = None
        if tls.client_ca_file is not None:
            authorities = _bytes("client_ca_file", tls.client_ca_file)
            _certificates("client_ca_file", authorities)
        self._metrics.credentials_read(_SOURCE, ok=True)
        self._metrics.certificate(leaf.not_valid_after_utc.timestamp())
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities)


def file_state(file: Path) -> tuple[int, ...]:
    """Return a value that differs once the file is written or replaced; empty while there is no file."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _bytes(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise CertificateError(f"tls.{name}: cannot read {file}: {exc.strerror}") from exc


def _certificates(name: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise CertificateError(f"tls.{name}: holds no PEM certificates") from exc
