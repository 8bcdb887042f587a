"""The committed vectors: what any implementation of the format must compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from placet.canonical import action_digest, canonical_action, parse_object
from placet.normalise import NormalisationStep, normalise
from placet.secret_paths import hide, secrets_digest
from tests.conformance.make_vectors import secret_vectors, vectors

SPELLINGS = json.loads((Path(__file__).parent / "vectors" / "normalisation.json").read_text())
SECRETS = json.loads((Path(__file__).parent / "vectors" / "secrets.json").read_text())
VECTORS = json.loads((Path(__file__).parent / "vectors" / "actions.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_action_has_the_vectors_form_and_digest(vector: dict[str, str]) -> None:
    arguments = parse_object(vector["arguments"].encode(), field="arguments")
    assert (
        canonical_action(tool=vector["tool"], resource=vector["resource"], arguments=arguments).decode()
        == vector["canonical"]
    )
    digest = action_digest(
        tool=vector["tool"],
        resource=vector["resource"],
        arguments=arguments,
        salt=bytes.fromhex(vector["salt"]),
    )
    assert digest.hex() == vector["ad"]


@pytest.mark.parametrize("vector", SECRETS, ids=lambda vector: vector["name"])
def test_secrets_are_left_out_and_digested_as_in_the_vectors(vector: dict[str, Any]) -> None:
    arguments = parse_object(vector["arguments"].encode(), field="arguments")
    hidden = hide(arguments, vector["paths"])
    assert list(hidden.paths) == vector["secrets"]
    named = {"tool": vector["tool"], "resource": vector["resource"]}
    for paths in (vector["paths"], vector["secrets"]):
        rest = hide(arguments, paths).rest
        digest = action_digest(arguments=rest, salt=bytes.fromhex(vector["salt"]), **named)
        assert digest.hex() == vector["ad"]
    apart = secrets_digest(arguments=arguments, salt=bytes.fromhex(vector["secret_salt"]), **named)
    assert apart.hex() == vector["secrets_digest"]


@pytest.mark.parametrize("vector", SPELLINGS, ids=lambda vector: vector["name"])
def test_identifier_has_the_vectors_normal_form(vector: dict[str, Any]) -> None:
    steps = [NormalisationStep(step) for step in vector["steps"]]
    assert normalise(vector["given"], steps) == vector["normal"]
    assert normalise(vector["normal"], steps) == vector["normal"]


def test_every_step_has_a_vector() -> None:
    assert {step for vector in SPELLINGS for step in vector["steps"]} == set(NormalisationStep)


def test_vectors_were_made_independently() -> None:
    assert vectors() == VECTORS
    assert secret_vectors() == SECRETS
