from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdp.action.derivation import derive
from pdp.action.templates import TemplateError, read_template
from pdp.errors import InvalidFieldError
from pdp.model import EntityRef, Normalisation, Tool
from placet.normalise import NormalisationStep
from tests.support import builders
from tests.support.registrations import check_tool


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
        # A pattern is seen where it stands in what was given, whatever `..` behind it seems to take away.
        ("{x/y,../../../etc}/passwd", None),
        ("*/../x", None),
        ("?/../x", None),
        ("[a/../x", None),
        ("@(a|..)/x", None),
        ("a/../{x}", None),
        # The folder itself is not in it.
        (".", "/srv/share"),
        ("./", "/srv/share"),
        ("a/..", "/srv/share"),
        # Somewhere else for the shell, for a drive's or a URL's reader.
        ("~/x", None),
        ("~root", None),
        ("a/~", "/srv/share/a/~"),
        ("C:/x", None),
        ("c:x", None),
        ("file:///etc/passwd", None),
        ("//host/x", None),
        ("$HOME/x", "/srv/share/$HOME/x"),
        # What ends or leads elsewhere for some readers.
        ("a\0b", None),
        ("a%00b", None),
        ("%252e%252e/x", None),
        ("a%25252fb", None),
        ("...", None),
        (".. /x", None),
        ("a/. ./x", None),
        ("..;/x", None),
        ("a/..;v=1/x", None),
        ("a/..b/.c", "/srv/share/a/..b/.c"),
        (" a", None),
        ("a ", None),
        ("a.", "/srv/share/a."),
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
        ("a/../src/*", "src/"),
        ("src/{a,../../secrets}/**", None),
        ("src/{x/y/z,../../../../etc}/passwd", None),
        ("src/*/../x", None),
        ("src/a*/../b", None),
        ("{/etc/passwd,a}", None),
    ],
)
def test_pattern_touches_the_folder_that_it_matches_in(path: str, made_id: str | None) -> None:
    assert touched(path, path_tool("file:{path}", glob=True)) == made_id


def test_pattern_in_a_given_folder() -> None:
    tool = path_tool("file:/srv/{path}", glob=True)
    assert touched("*", tool) == "/srv/"
    assert touched("a/*", tool) == "/srv/a/"
    assert touched("/*", tool) is None


@pytest.mark.parametrize("steps", [("path", "nfkc"), ("nfkc", "path"), ("path", "compact", "nfkc")])
@pytest.mark.parametrize(
    "path",
    [
        "\uff5bx/y,../../../etc\uff5d/passwd",
        "\uff0a/../x",
        "\uff1f/../x",
        "\uff3ba/../x",
        "a\uff0fb/../../../x",
        "\uff05\uff12e./x",
        "a/\uff3c/../x",
        "\u2025/x",
        "\u2024\u2024/x",
    ],
)
def test_what_earlier_and_later_steps_make_of_a_path_is_seen(path: str, steps: tuple[str, ...]) -> None:
    normalise = (Normalisation(argument="path", steps=tuple(map(NormalisationStep, steps))),)
    assert touched(path, path_tool("file:/srv/share/{path}", normalise=normalise)) is None


def test_white_space_that_another_step_takes_away_holds_no_segment() -> None:
    steps = tuple(map(NormalisationStep, ("path", "compact")))
    tool = path_tool("file:/srv/share/{path}", normalise=(Normalisation(argument="path", steps=steps),))
    assert touched("a/ - /../x", tool) == "/srv/share/x"
    assert touched(" - /../x", tool) is None


@pytest.mark.parametrize(
    ("resource", "path", "made_id"),
    [
        ("{path}", ".", "."),
        ("/{path}", ".", None),
        ("share:{path}", ".", None),
        ("/srv/{path}/x", ".", None),
        ("/srv/{path}", "a", "/srv/a"),
        ("{path}", "~/x", "~/x"),
        ("{path}", "/srv/a", "/srv/a"),
        ("{path}", "src/*/../x", None),
    ],
)
def test_folder_in_which_a_path_begins_has_a_name_of_its_own_or_none(
    resource: str, path: str, made_id: str | None
) -> None:
    assert touched(path, path_tool(f"file:{resource}")) == made_id


@pytest.mark.parametrize(
    "path",
    [
        "/srv/share/.",
        "/srv/share/./",
        "/srv/./share",
        "/srv/share/..",
        "/srv/share/%2e",
        "/srv/share/%2E%2e/x",
        "/srv/share/..%2f..",
        "/srv/share/%252e%252e%252fx",
        "a\\..\\b",
    ],
)
def test_id_with_segments_that_are_no_names_is_none(path: str) -> None:
    assert touched(path, path_tool("file:{path}", normalise=())) is None


@pytest.mark.parametrize("value", [".", "..", "%2e", "%2e%2e", "a%252fb", "%255c"])
def test_segment_is_a_name(value: str) -> None:
    assert touched(value, path_tool("file:/srv/share/{path}", normalise=())) is None
    assert touched(value, path_tool("file:/srv/{path}/x", normalise=())) is None


def test_argument_of_which_nothing_says_that_it_is_a_path_is_free() -> None:
    """docs/tools.md says so, and what to do."""
    for path in ("/srv/share/*", "/srv/share/{a,b}/x", "C:\\a", "https://a.example/b?c=[d]", "~/x"):
        assert touched(path, path_tool("file:{path}", normalise=())) == path


@settings(max_examples=1500)
@given(
    between=st.lists(PIECE.filter(bool), min_size=1, max_size=2),
    first=PIECE,
    last=st.sampled_from(["", "/", "-b"]),
    data=st.data(),
)
def test_no_two_sets_of_values_make_one_id_with_a_path_at_the_end(
    between: list[str], first: str, last: str, data: st.DataObject
) -> None:
    names = [f"p{place}" for place in range(len(between) + 1)]
    literals = [first, *between]
    template = read_template("".join(a + "{" + b + "}" for a, b in zip(literals, names, strict=True)) + last)
    path = st.sampled_from([".", "a", "a/b", "b/a", "-", "a/-b"])
    values = st.fixed_dictionaries(dict.fromkeys(names[:-1], VALUE) | {names[-1]: path})
    one, other = data.draw(values), data.draw(values)
    made_one, made_other = (template.fill(value, paths=names[-1:]) for value in (one, other))
    assert made_one is None or made_one != made_other or one == other


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
