"""The policy bundle: its sources, the words that people read for its codes, and OPA's signed build of it.

Sources stand in rego/ (beside the package in a checkout, inside it in the wheel). The build
takes them without their tests and adds `data.placet.catalogue`: for each code what people
read, made of the annotations on the rules. The sidecar serves only a bundle whose signature it has
verified, and refuses any other (OPA documentation, Bundles, Signing).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pdp.model import Remedy

BUNDLE_NAME = "placet"
# Bound into the signature; the sidecar's configuration demands the same.
SIGNING_SCOPE = "placet"
SIGNING_ALGORITHM = "ES256"
ENTRYPOINTS = ("placet/decision/decision", "placet/decision/batch")

_RULES = ("placet", "rules")
_OPA_SECONDS = 600.0
# Characters of what a rule's author advises.
MAX_REMEDIATION = 300


class BundleError(Exception):
    """The bundle could not be built; the message says why, in OPA's words where it has any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerificationKey:
    """The public half of a signing key."""

    # Names the key in the bundle's signature and in the sidecar's configuration.
    key_id: str
    # PEM, SubjectPublicKeyInfo.
    public_key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleKey:
    """A P-256 private key on disk, and what verifiers need."""

    path: Path
    # Names the key in the bundle's signature and in the sidecar's configuration.
    key_id: str
    # PEM, SubjectPublicKeyInfo.
    public_key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltBundle:
    """A signed bundle on disk. `revision` comes back with every verdict that it gives."""

    path: Path
    revision: str
    key_id: str
    # PEM, SubjectPublicKeyInfo.
    public_key: str
    scope: str = SIGNING_SCOPE


def policy_sources() -> Path:
    """Return the directory of the Rego sources. Raises `BundleError` if there is none."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "rego", package.parent / "rego"):
        if (candidate / ".manifest").is_file():
            return candidate
    raise BundleError(f"no policy sources in {package / 'rego'} or {package.parent / 'rego'}")


def ensure_signing_key(path: Path) -> BundleKey:
    """Return the key at `path`, made there (mode 600) if there is none.

    For development: in production the key belongs to the pipeline that publishes policy, not
    to the machine that serves it. Raises `BundleError` for a file that is no such key.
    """
    if not path.exists():
        _write_new_key(path)
    return load_signing_key(path)


def create_signing_key(path: Path) -> BundleKey:
    """Make a new key at `path` (mode 600). Raises `BundleError` if there is a file already."""
    if not _write_new_key(path):
        raise BundleError(f"{path}: there is a file already, which is left as it is")
    return load_signing_key(path)


def _write_new_key(path: Path) -> bool:
    """Return whether a new key was written; not where a file is already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return _create_once(path, pem)


def load_signing_key(path: Path) -> BundleKey:
    """Read a P-256 private key. Raises `BundleError` if `path` does not hold one."""
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise BundleError(f"{path}: not a readable PEM private key without a passphrase: {exc}") from exc
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise BundleError(f"{path}: {SIGNING_ALGORITHM} needs a P-256 key")
    verification = _verification_key(private.public_key())
    return BundleKey(path=path, key_id=verification.key_id, public_key=verification.public_key)


def load_verification_key(path: Path) -> VerificationKey:
    """Read a P-256 public key. Raises `BundleError` if `path` does not hold one."""
    try:
        public = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise BundleError(f"{path}: not a readable PEM public key: {exc}") from exc
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise BundleError(f"{path}: {SIGNING_ALGORITHM} needs a P-256 key")
    return _verification_key(public)


def _verification_key(public: ec.EllipticCurvePublicKey) -> VerificationKey:
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return VerificationKey(
        key_id=f"bundle-{hashlib.sha256(spki).hexdigest()[:16]}", public_key=pem.decode("ascii")
    )


def build(
    *,
    opa: Path,
    key: BundleKey,
    output: Path,
    sources: Path | None = None,
    revision: str | None = None,
) -> BuiltBundle:
    """Build `sources` into the signed bundle `output`, which appears whole or not at all.

    Without `revision` it is the hash of what the bundle holds: equal sources, equal revision.
    Raises `BundleError`.
    """
    sources = sources or policy_sources()
    with tempfile.TemporaryDirectory(prefix="placet-bundle-") as work:
        staging = Path(work)
        tree = staging / "bundle"
        _stage(sources, tree)
        _write_json(tree / "placet" / "catalogue" / "data.json", catalogue(opa=opa, sources=tree))
        revision = revision or _content_hash(tree)
        _write_json(staging / "claims.json", {"keyid": key.key_id, "scope": SIGNING_SCOPE})
        _write_json(staging / "capabilities.json", capabilities(opa=opa))
        built = staging / "bundle.tar.gz"
        run_opa(
            opa,
            "build",
            "--bundle",
            ".",
            "--output",
            str(built),
            "--revision",
            revision,
            "--capabilities",
            str(staging / "capabilities.json"),
            "--signing-alg",
            SIGNING_ALGORITHM,
            "--signing-key",
            str(key.path.resolve()),
            "--claims-file",
            str(staging / "claims.json"),
            *(argument for entrypoint in ENTRYPOINTS for argument in ("--entrypoint", entrypoint)),
            cwd=tree,
        )
        _replace(built, output)
    return BuiltBundle(path=output, revision=revision, key_id=key.key_id, public_key=key.public_key)


def catalogue(*, opa: Path, sources: Path) -> dict[str, dict[str, Any]]:
    """Return for each rule's code what people read, from the annotation on the rule.

    A rule's code is its file's path: placet/rules/boundary/tool.rego is `boundary.tool`.
    Raises `BundleError` for a rule file without a title and a description, and for a remediation or a remedy
    that cannot be shown.
    """
    inspected = json.loads(run_opa(opa, "inspect", "--annotations", "--format", "json", ".", cwd=sources))
    entries: dict[str, dict[str, Any]] = {}
    for item in inspected.get("annotations", ()):
        code = _code_of(PurePosixPath(item["location"]["file"]))
        annotation = item["annotations"]
        if code is not None and "title" in annotation and "description" in annotation:
            entries.setdefault(code, _entry(annotation, code))
    for file in _policy_files(sources):
        code = _code_of(PurePosixPath(file.relative_to(sources).as_posix()))
        if code is not None and code not in entries:
            raise BundleError(f"{file.relative_to(sources)}: the rule has no title and description")
    return dict(sorted(entries.items()))


def capabilities(*, opa: Path) -> dict[str, Any]:
    """Return what policy may use: this OPA's built-ins without those that are not functions
    of their arguments (`http.send`, `opa.runtime`, `net.lookup_ip_addr`, `time.now_ns` …).

    A verdict then rests on the input document and the bundle alone, and can be replayed.
    """
    current: dict[str, Any] = json.loads(run_opa(opa, "capabilities", "--current", cwd=Path.cwd()))
    current["builtins"] = [b for b in current["builtins"] if not b.get("nondeterministic", False)]
    current["allow_net"] = []
    return current


def _entry(annotation: Mapping[str, Any], code: str) -> dict[str, Any]:
    custom = annotation.get("custom", {})
    entry: dict[str, Any] = {"title": annotation["title"], "message": annotation["description"].strip()}
    if "remediation" in custom:
        entry["remediation"] = _remediation(custom["remediation"], code)
    if "remedy" in custom:
        entry["remedy"] = _remedy(custom["remedy"], code)
    if "related_resources" in annotation:
        entry["references"] = [related["ref"] for related in annotation["related_resources"]]
    return entry


def _remediation(text: object, code: str) -> str:
    """Return an author's advice: one line that a terminal and a model can be shown. Raises `BundleError`."""
    line = " ".join(text.split()) if isinstance(text, str) else ""
    if not line or len(line) > MAX_REMEDIATION or not line.isprintable():
        raise BundleError(
            f"{code}: remediation must be text of at most {MAX_REMEDIATION} printable characters"
        )
    return line


def _remedy(word: object, code: str) -> str:
    """Return what can help, as verdicts say it. Raises `BundleError`."""
    known = [remedy.value for remedy in Remedy]
    if not isinstance(word, str) or word not in known:
        raise BundleError(f"{code}: remedy is none of {', '.join(known)}")
    return word


def _code_of(file: PurePosixPath) -> str | None:
    """Return the code of a rule's file; None for a file that is no rule."""
    if len(file.parts) != 4 or file.parts[:2] != _RULES or file.name.endswith("_test.rego"):
        return None
    return f"{file.parts[2]}.{file.stem}"


def _policy_files(sources: Path) -> Iterator[Path]:
    """Return the bundle's own files, in a fixed order: its manifest, its data, its policy without tests."""
    for file in sorted(sources.rglob("*")):
        if file.is_file() and (
            file.name in (".manifest", "data.json")
            or (file.suffix == ".rego" and not file.name.endswith("_test.rego"))
        ):
            yield file


def _stage(sources: Path, tree: Path) -> None:
    for file in _policy_files(sources):
        target = tree / file.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if not (tree / ".manifest").is_file():
        raise BundleError(f"{sources}: no .manifest")


def _content_hash(tree: Path) -> str:
    digest = hashlib.sha256()
    for file in _policy_files(tree):
        content = file.read_bytes()
        name = file.relative_to(tree).as_posix()
        digest.update(f"{len(name)}:{name}{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def run_opa(opa: Path, *arguments: str, cwd: Path, stdin: str = "") -> str:
    """Return what an OPA command printed. Raises `BundleError`, in OPA's words, if it failed."""
    try:
        done = subprocess.run(
            [str(opa.resolve()), *arguments],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_OPA_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BundleError(f"{opa} {arguments[0]}: {exc}") from exc
    if done.returncode != 0:
        raise BundleError(f"opa {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")


def _create_once(path: Path, content: bytes) -> bool:
    """Create `path` with `content`, or leave what is there; return whether it was created."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
    finally:
        fresh.unlink()
    return True


def _replace(built: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    shutil.copyfile(built, beside)
    beside.replace(output)
