from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.action.derivation import check_tool, derive
from pdp.action.templates import TemplateError, read_template
from pdp.errors import InvalidFieldError
from pdp.model import EntityRef, Normalisation, Tool
from placet.normalise import NormalisationStep
from tests.support import builders


def made(template: str, **arguments: Any) -> str | None:
    return read_template(template).fill(arguments)


@pytest.mark.parametrize(
    ("template", "arguments", "made_id"),
    [
        ("{invoice}", {"invoice": "INV-1001"}, "INV-1001"),
        ("{repo}", {"repo": "acme/web"}, "acme/web"),
        ("{path}", {"path": "/srv/share/a.txt"}, "/srv/share/a.txt"),
        ("{path}", {"path": "./README.md"}, "./README.md"),
        ("{owner}/{name}", {"owner": "acme", "name": "web"}, "acme/web"),
        ("{customer}-{account}", {"customer": "C", "account": "1-2"}, "C-1-2"),
        ("/srv/share/{path}", {"path": "a.txt"}, "/srv/share/a.txt"),
        ("{{x}}", {"x": "1"}, "{x}"),
        ("{{{x}}}", {"x": "1"}, "{1}"),
        ("{n}/{n}", {"n": 7}, "7/7"),
        ("{a}", {"a": "x:{y}"}, "x:{y}"),
    ],
)
def test_ordinary_ids(template: str, arguments: dict[str, Any], made_id: str) -> None:
    assert made(template, **arguments) == made_id


@pytest.mark.parametrize(
    ("template", "arguments"),
    [
        # The value could be read as another one, with other text after it.
        ("{customer}-{account}", {"customer": "C-1", "account": "2"}),
        ("{owner}/{name}", {"owner": "acme/evil", "name": "web"}),
        ("{a}--{b}", {"a": "x-", "b": "y"}),
        ("{a}aba{b}", {"a": "xab", "b": "y"}),
        ("{name}.txt", {"name": "a.txt"}),
        # More segments than the template has there.
        ("{owner}/{name}", {"owner": "acme", "name": "evil/web"}),
        ("{owner}/{name}", {"owner": "acme", "name": "a\\b"}),
        ("{owner}/{name}", {"owner": "acme", "name": "a%2Fb"}),
        ("{owner}/{name}", {"owner": "acme", "name": "a%5cb"}),
        ("/srv/share/{path}", {"path": "/etc/passwd"}),
        ("/srv/share/{path}", {"path": "a/b"}),
        # No identifier at all.
        ("{a}", {"a": ""}),
        ("{a}", {"a": None}),
        ("{a}", {"a": True}),
        ("{a}", {"a": ["x"]}),
        ("{a}", {}),
    ],
)
def test_values_that_make_no_id(template: str, arguments: dict[str, Any]) -> None:
    assert made(template, **arguments) is None


@pytest.mark.parametrize("template", ["{", "}", "a{b", "a}b", "{}", "x{}", "{a}{b}", "{{a}", "{a}}"])
def test_texts_that_are_no_template_are_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        read_template(template)
    for changed in (
        {"resource": f"x:{template}"},
        {"entities": (EntityRef(name="e", type="e", id=template),)},
    ):
        with pytest.raises(InvalidFieldError):
            check_tool(replace(builders.tool(amount=None), **changed), "tool")


PIECE = st.text(alphabet="ab-/.", min_size=0, max_size=3)
VALUE = st.text(alphabet="ab-/.%2f\\", min_size=1, max_size=6)


@settings(max_examples=1500)
@given(
    first=PIECE,
    between=st.lists(PIECE.filter(bool), max_size=2),
    last=PIECE,
    data=st.data(),
)
def test_no_two_sets_of_values_make_one_id(
    first: str, between: list[str], last: str, data: st.DataObject
) -> None:
    names = [f"p{place}" for place in range(len(between) + 1)]
    literals = [first, *between, last]
    text = "".join(a + "{" + b + "}" for a, b in zip(literals, names, strict=False)) + last
    template = read_template(text)
    one = data.draw(st.fixed_dictionaries(dict.fromkeys(names, VALUE)))
    other = data.draw(st.fixed_dictionaries(dict.fromkeys(names, VALUE)))
    made_one, made_other = template.fill(one), template.fill(other)
    assert made_one is None or made_one != made_other or one == other


@settings(max_examples=500)
@given(
    literals=st.lists(PIECE.filter(bool), min_size=1, max_size=2),
    made_id=st.text(alphabet="ab-/.", min_size=1, max_size=10),
)
def test_an_id_has_one_reading(literals: list[str], made_id: str) -> None:
    """Every way to cut an id along the template is tried: one at most is what `fill` makes."""
    names = [f"p{place}" for place in range(len(literals) + 1)]
    template = read_template(
        "".join("{" + n + "}" + lit for n, lit in zip(names, literals, strict=False)) + "{" + names[-1] + "}"
    )

    def cuts(text: str, left: list[str]) -> list[list[str]]:
        if not left:
            return [[text]]
        return [
            [text[:at], *rest]
            for at in range(len(text))
            if text.startswith(left[0], at)
            for rest in cuts(text[at + len(left[0]) :], left[1:])
        ]

    readings = [dict(zip(names, cut, strict=True)) for cut in cuts(made_id, literals)]
    assert sum(template.fill(reading) == made_id for reading in readings) <= 1


PATH = (Normalisation(argument="path", steps=(NormalisationStep.PATH,)),)


def path_tool(resource: str, *, glob: bool = False, normalise: Any = PATH) -> Tool:
    plain = builders.tool(resource=resource, amount=None, arguments_schema="{}")
    return replace(plain, normalise=normalise, glob=glob)


def touched(path: str, tool: Tool) -> str | None:
    resource = derive(builders.action(arguments={"path": path}), tool).resource
    return None if resource is None else resource.id


@pytest.mark.parametrize(
    ("path", "made_id"),
    [
        ("a/b.txt", "/srv/share/a/b.txt"),
        ("./a//b/../c", "/srv/share/a/c"),
        ("/etc/passwd", None),
        ("../etc/passwd", None),
        ("a/../../etc", None),
        ("a\\..\\b", None),
        ("%2e%2e/x", None),
        ("a%2Fb", None),
        ("*.txt", None),
        ("a[0]", None),
    ],
)
def test_argument_that_is_a_path_stays_in_its_folder(path: str, made_id: str | None) -> None:
    assert touched(path, path_tool("file:/srv/share/{path}")) == made_id


@pytest.mark.parametrize(
    ("path", "made_id"),
    [
        ("src/*.py", "src/"),
        ("src/ab*", "src/"),
        ("/tmp/x/**/*", "/tmp/x/"),
        ("*.py", "./"),
        ("src/main.py", "src/main.py"),
        ("{a,b}/c", "./"),
        ("../*", None),
    ],
)
def test_pattern_touches_the_folder_that_it_matches_in(path: str, made_id: str | None) -> None:
    assert touched(path, path_tool("file:{path}", glob=True)) == made_id


def test_pattern_in_a_given_folder() -> None:
    tool = path_tool("file:/srv/{path}", glob=True)
    assert touched("*", tool) == "/srv/"
    assert touched("a/*", tool) == "/srv/a/"
    assert touched("/*", tool) is None


def test_path_that_is_the_whole_id_may_be_absolute() -> None:
    for path in ("/srv/a.txt", "./README.md", "a/b"):
        assert touched(path, path_tool("file:{path}", normalise=())) == path


def test_registration_of_earlier_rules_that_is_no_template_names_nothing() -> None:
    derived = derive(
        builders.action(arguments={"a": "1", "b": "2"}),
        replace(
            builders.tool(resource="x:{a}{b}", arguments_schema="{}", amount=None),
            entities=(EntityRef(name="e", type="e", id="{a}{b}"),),
        ),
    )
    assert derived.resource is None
    assert "registry.resource_underivable" in derived.problems
    assert derived.entities == ()
