"""One spelling of an identifier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.normalise import MAX_TEXT, NormalisationError, NormalisationStep, normalise

TRIM, UPPER, LOWER, NFKC, HYPHENATE, COMPACT, PATH = NormalisationStep
INVOICE = (TRIM, UPPER, HYPHENATE)


@pytest.mark.parametrize(
    ("given_", "steps", "normal"),
    [
        ("inv 1001 ", INVOICE, "INV-1001"),
        ("INV-1001", INVOICE, "INV-1001"),
        ("\tinv__1001\u00a0", INVOICE, "INV-1001"),
        ("inv\u2003_ \u30001001", INVOICE, "INV-1001"),
        (" a ", (TRIM,), "a"),
        ("\u200ba", (TRIM,), "\u200ba"),
        ("straße", (UPPER,), "STRASSE"),
        ("ΑΣ", (LOWER,), "ας"),
        ("ﬁn①", (NFKC,), "fin1"),
        ("DE11 1000-0000", (COMPACT,), "DE1110000000"),
        ("a_b", (COMPACT,), "a_b"),
        # NFKC makes a space of the no-break space's kin, and trimming comes first.
        ("\u00a8a", (TRIM, NFKC), "\u0308a"),
        ("", INVOICE, ""),
        (" ", INVOICE, ""),
        ("as it is ", (), "as it is "),
        ("/srv//share/./a/../b/", (PATH,), "/srv/share/b"),
        ("./README.md", (PATH,), "README.md"),
        ("a/..", (PATH,), "."),
        ("/", (PATH,), "/"),
        ("/..a/b..", (PATH,), "/..a/b.."),
    ],
)
def test_steps(given_: str, steps: tuple[NormalisationStep, ...], normal: str) -> None:
    assert normalise(given_, steps) == normal


@given(st.text(max_size=40), st.lists(st.sampled_from(NormalisationStep), max_size=8))
def test_normal_text_stays_as_it_is(text: str, steps: list[NormalisationStep]) -> None:
    try:
        normal = normalise(text, steps)
    except NormalisationError:
        return
    assert normalise(normal, steps) == normal


@given(st.text(max_size=40))
def test_every_text_has_an_invoices_spelling(text: str) -> None:
    assert normalise(normalise(text, INVOICE), INVOICE) == normalise(text, INVOICE)


def test_last_step_has_the_last_word() -> None:
    assert normalise("aB", (UPPER, LOWER)) == "ab"


@pytest.mark.parametrize(
    "path", ["..", "../a", "/..", "a/../../b", "a\\b", "%2e%2e/a", "a%2Fb", "a%5Cb", "/a/../../b"]
)
def test_path_that_leads_elsewhere_has_no_normal_form(path: str) -> None:
    with pytest.raises(NormalisationError):
        normalise(path, (PATH,))


def test_longer_text_than_any_identifier_is_refused() -> None:
    with pytest.raises(NormalisationError):
        normalise("a" * (MAX_TEXT + 1), INVOICE)
