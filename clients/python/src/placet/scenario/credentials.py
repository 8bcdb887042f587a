"""Credentials of a scenario's callers, for a PDP that believes nobody's own word: one for each subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from placet.credentials import TlsCredentials, token_from
from placet.scenario.document import Document, Fault
from placet.scenario.model import Part, Text


class CallersError(Exception):
    """A file of credentials cannot be used; the message names every fault."""


class Proof(Part):
    """A certificate with its key, a file with a bearer token, or both.

    Relative paths start in the folder of the file that names them.
    """

    cert: Text | None = None
    key: Text | None = None
    token_file: Text | None = None

    def credentials(self, folder: Path, ca: str) -> TlsCredentials:
        """Return the credentials; `ca` is a PEM file, or empty. Raises ValueError."""
        return TlsCredentials(
            ca_file=ca or None,
            certificate_file=None if self.cert is None else folder / self.cert,
            key_file=None if self.key is None else folder / self.key,
            token=None if self.token_file is None else token_from(folder / self.token_file),
        )


_FORM: TypeAdapter[dict[str, Proof]] = TypeAdapter(dict[Text, Proof])


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Credentials by subject. They never show in logs: `repr` leaves them out."""

    by_subject: Mapping[str, TlsCredentials] = field(repr=False)

    @property
    def subjects(self) -> list[str]:
        return sorted(self.by_subject)


def read_credentials(text: str, file: str, ca: str) -> Credentials:
    """Return the credentials in YAML that maps subjects to them. `ca` is a PEM file of the authorities
    that vouch for the PDP.

    Raises `CallersError`.
    """
    document = Document(text, file)
    faults: list[Fault] = list(document.faults)
    found: dict[str, TlsCredentials] = {}
    proofs: dict[str, Proof] = {}
    if not faults:
        try:
            proofs = _FORM.validate_python(document.value)
        except ValidationError as exc:
            faults += [document.fault(tuple(error["loc"]), error["msg"]) for error in exc.errors()]
    for subject, proof in proofs.items():
        try:
            found[subject] = proof.credentials(Path(file).parent, ca)
        except ValueError as exc:
            faults.append(document.fault((subject,), str(exc)))
    if faults:
        raise CallersError("\n".join(map(str, faults)))
    return Credentials(by_subject=found)
