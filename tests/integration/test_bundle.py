"""The signed bundle: built alike from equal sources, and the only policy that OPA serves."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pdp.errors import PolicyUnavailableError
from pdp.opa import OpaAdministration, OpaStatus
from pdp.opa.bundle import (
    BuiltBundle,
    BundleError,
    build,
    capabilities,
    catalogue,
    ensure_signing_key,
    load_signing_key,
    policy_sources,
)
from tests.support.documents import encode, payment_document
from tests.support.markdown import code, section, table, text_of
from tests.support.opa import RunningOpa

NewOpa = Callable[..., RunningOpa]


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }


def repack(path: Path, target: Path, files: dict[str, bytes]) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    target.write_bytes(gzip.compress(packed.getvalue()))
    return target


def test_equal_sources_have_an_equal_revision(
    opa_path: Path, tmp_path: Path, signed_bundle: BuiltBundle
) -> None:
    key = ensure_signing_key(tmp_path / "other.pem")
    again = build(opa=opa_path, key=key, output=tmp_path / "again.tar.gz")

    assert again.revision == signed_bundle.revision
    assert again.key_id != signed_bundle.key_id


def test_another_rule_or_default_is_another_revision(
    opa_path: Path, tmp_path: Path, signed_bundle: BuiltBundle
) -> None:
    sources = tmp_path / "rego"
    shutil.copytree(policy_sources(), sources)
    defaults = sources / "placet" / "defaults" / "data.json"
    defaults.write_text(defaults.read_text().replace("0.2", "0.3"))
    key = ensure_signing_key(tmp_path / "key.pem")

    changed = build(opa=opa_path, key=key, output=tmp_path / "changed.tar.gz", sources=sources)
    named = build(opa=opa_path, key=key, output=tmp_path / "named.tar.gz", sources=sources, revision="v7")

    assert changed.revision != signed_bundle.revision
    assert named.revision == "v7"
    assert json.loads(members(named.path)["/.manifest"])["revision"] == "v7"


def test_reasons_are_documented_as_the_rules_word_them(signed_bundle: BuiltBundle) -> None:
    catalogue = json.loads(members(signed_bundle.path)["/data.json"])["placet"]["catalogue"]
    rows = table(section(text_of("docs/policies.md"), "Reasons"))
    said = {code(name)[0]: meaning for name, _, meaning in rows}
    del said["pdp.no_applicable_rule"]
    assert said == {name: entry["message"] for name, entry in catalogue.items()}
    assert list(said) == sorted(said)


def test_bundle_holds_rules_defaults_and_wording_but_no_tests(signed_bundle: BuiltBundle) -> None:
    files = members(signed_bundle.path)

    assert not [name for name in files if "_test" in name or "schema" in name]
    data = json.loads(files["/data.json"])["placet"]
    codes = {
        f"{path.parent.name}.{path.stem}"
        for path in (policy_sources() / "placet" / "rules").rglob("*.rego")
        if not path.stem.endswith("_test")
    }
    assert set(data["catalogue"]) == codes
    assert all(entry["title"] and entry["message"] for entry in data["catalogue"].values())
    assert set(data["defaults"]) == {
        "distinct_runtimes",
        "trust_floor",
        "large_amount",
        "dual_control_amount",
        "po_tolerance",
        "order_used",
        "variance_block_factor",
        "velocity",
    }


@pytest.mark.parametrize(
    "call",
    ["http.send({})", "opa.runtime()", 'net.lookup_ip_addr("x")', "time.now_ns()", 'rand.intn("a", 2)'],
)
def test_policy_that_looks_beyond_its_input_is_not_built(opa_path: Path, tmp_path: Path, call: str) -> None:
    sources = tmp_path / "rego"
    shutil.copytree(policy_sources(), sources)
    rule = sources / "placet" / "rules" / "session" / "odd.rego"
    rule.write_text(
        "package placet.rules.session\n\n# METADATA\n# scope: rule\n# title: t\n# description: d\n"
        f'block contains "session.odd" if {call}\n'
    )
    key = ensure_signing_key(tmp_path / "key.pem")

    with pytest.raises(BundleError, match="undefined function"):
        build(opa=opa_path, key=key, output=tmp_path / "x.tar.gz", sources=sources)
    assert not (tmp_path / "x.tar.gz").exists()


def test_rule_without_wording_is_not_built(opa_path: Path, tmp_path: Path) -> None:
    sources = tmp_path / "rego"
    shutil.copytree(policy_sources(), sources)
    (sources / "placet" / "rules" / "session" / "odd.rego").write_text(
        'package placet.rules.session\n\nblock contains "session.odd" if false\n'
    )
    with pytest.raises(BundleError, match=r"session/odd\.rego: the rule has no title and description"):
        build(
            opa=opa_path,
            key=ensure_signing_key(tmp_path / "k"),
            output=tmp_path / "x.tar.gz",
            sources=sources,
        )


@pytest.mark.parametrize(
    ("custom", "refused"),
    [
        ("remedy: retry", r"session\.odd: remedy is none of change_call, first"),
        ("remediation: ''", r"session\.odd: remediation must be text"),
        ("remediation: [a]", r"session\.odd: remediation must be text"),
        (f"remediation: {'x' * 301}", r"session\.odd: remediation must be text"),
        ('remediation: "a \\u001b[2J"', r"session\.odd: remediation must be text"),
    ],
)
def test_advice_that_cannot_be_shown_is_not_built(
    opa_path: Path, tmp_path: Path, custom: str, refused: str
) -> None:
    sources = tmp_path / "rego"
    shutil.copytree(policy_sources(), sources)
    (sources / "placet" / "rules" / "session" / "odd.rego").write_text(
        "package placet.rules.session\n\n# METADATA\n# scope: rule\n# title: T\n# description: D\n"
        f'# custom:\n#   {custom}\nblock contains "session.odd" if false\n'
    )
    with pytest.raises(BundleError, match=refused):
        catalogue(opa=opa_path, sources=sources)


def test_capabilities_are_functions_of_their_arguments(opa_path: Path) -> None:
    names = {builtin["name"] for builtin in capabilities(opa=opa_path)["builtins"]}
    assert {"startswith", "object.union"} <= names
    assert not names & {"http.send", "opa.runtime", "net.lookup_ip_addr", "time.now_ns", "rand.intn"}


def test_signing_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "bundle.pem"
    key = ensure_signing_key(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_signing_key(path) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle.pem"]


def test_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    path.write_text("no key")
    with pytest.raises(BundleError, match="not a readable PEM private key"):
        ensure_signing_key(path)
    rsa = tmp_path / "rsa.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(rsa), "2048"], check=True, capture_output=True)
    with pytest.raises(BundleError, match="P-256"):
        load_signing_key(rsa)


# --- what OPA makes of it ---


async def status_of(running: RunningOpa) -> OpaStatus:
    """Launch, and return what OPA says once it has taken or refused its bundle."""
    running.launch()
    admin = OpaAdministration(running.sidecar.admin_address, token=running.sidecar.admin_token)
    async with asyncio.timeout(60):
        while True:
            try:
                status = await admin.status()
            except PolicyUnavailableError as exc:
                if exc.cause != "connection":
                    raise
            else:
                if status.active or status.error:
                    return status
            await asyncio.sleep(0.02)


async def refused(running: RunningOpa) -> str:
    """Return why OPA refused; it must serve nothing then."""
    status = await status_of(running)
    assert not status.active
    engine = running.engine()
    with pytest.raises(PolicyUnavailableError) as caught:
        await engine.decide(encode(payment_document()), deadline=time.monotonic() + 30)
    assert caught.value.cause == "no_result"
    await engine.aclose()
    return status.error


async def test_signed_bundle_is_served(signed_bundle: BuiltBundle, new_opa: NewOpa) -> None:
    status = await status_of(new_opa(signed_bundle, ready_seconds=0))
    assert status.active
    assert status.error == ""
    assert status.revision == signed_bundle.revision


async def test_unsigned_bundle_is_refused(
    signed_bundle: BuiltBundle, new_opa: NewOpa, tmp_path: Path
) -> None:
    files = members(signed_bundle.path)
    del files["/.signatures.json"]
    unsigned = repack(signed_bundle.path, tmp_path / "unsigned.tar.gz", files)

    assert "signatures" in await refused(new_opa(signed_bundle, location=str(unsigned), ready_seconds=0))


async def test_bundle_signed_by_another_key_is_refused(
    signed_bundle: BuiltBundle, new_opa: NewOpa, opa_path: Path, tmp_path: Path
) -> None:
    stranger = build(
        opa=opa_path, key=ensure_signing_key(tmp_path / "stranger.pem"), output=tmp_path / "stranger.tar.gz"
    )
    running = new_opa(signed_bundle, location=str(stranger.path), ready_seconds=0)

    assert "verif" in await refused(running)


async def test_bundle_of_another_scope_is_refused(signed_bundle: BuiltBundle, new_opa: NewOpa) -> None:
    running = new_opa(replace(signed_bundle, scope="other"), ready_seconds=0)
    assert "scope" in await refused(running)


@pytest.mark.parametrize(
    "what", ["changed rule", "added rule", "removed rule", "changed default", "revision"]
)
async def test_tampered_bundle_is_refused(
    signed_bundle: BuiltBundle, new_opa: NewOpa, tmp_path: Path, what: str
) -> None:
    files = members(signed_bundle.path)
    rule = "/placet/rules/boundary/tool.rego"
    match what:
        case "changed rule":
            files[rule] = files[rule].replace(b"not tool_proven", b"not true")
        case "added rule":
            files["/placet/rules/task/more.rego"] = (
                b'package placet.rules.task\n\nallow contains "task.more"\n'
            )
        case "removed rule":
            del files[rule]
        case "changed default":
            files["/data.json"] = files["/data.json"].replace(b"0.5", b"0.0")
        case _:
            files["/.manifest"] = files["/.manifest"].replace(
                signed_bundle.revision.encode(), b"0" * len(signed_bundle.revision)
            )
    tampered = repack(signed_bundle.path, tmp_path / "tampered.tar.gz", files)

    assert await refused(new_opa(signed_bundle, location=str(tampered), ready_seconds=0))
