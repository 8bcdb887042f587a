"""Begin a rule of the policy: `python tools/new_rule.py CATEGORY/RULE [--effect escalate] [--title …]`.

Writes the rule with its annotation, its test with the four cases that every rule has, and its row in the
reasons of docs/policies.md. Everything passes as it stands but for the word TODO, which the policy's lint
refuses: the author puts the condition in its place, and wording that was not given. Nothing that exists is
written over. Standard library only.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
# The row after which the reasons of rules end.
LAST_ROW = "| `pdp.no_applicable_rule` |"
RULE = """\
package placet.rules.{category}

# METADATA
# scope: rule
# title: {title}
# description: {description}
# custom:
#   remedy: {remedy}
#   remediation: {remediation}
{effect} contains "{category}.{rule}" if {{
	input.action.tool.effect == "pay"
	not {rule}_proven
}}

# What is proven here is that the action is safe; whatever is missing or odd proves nothing.
{rule}_proven if {{
	is_string(input.action.tool.name)
	input.action.tool.name != "TODO"
}}
"""
TEST = """\
package placet.rules.{category}_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.{category}

test_{rule}_fires if {{
	"{category}.{rule}" in {category}.{effect} with input as fixtures.replaced("/action/tool/name", "TODO")
}}

test_{rule}_quiet_for_what_is_safe if {{
	not "{category}.{rule}" in {category}.{effect} with input as fixtures.document
}}

test_{rule}_fires_for_a_field_missing_or_of_the_wrong_type if {{
	"{category}.{rule}" in {category}.{effect} with input as fixtures.removed("/action/tool/name")
	every odd in [null, 1, {{}}, []] {{
		"{category}.{rule}" in {category}.{effect} with input as fixtures.replaced("/action/tool/name", odd)
	}}
}}

test_{rule}_proves_nothing_without_data if {{
	every odd in [{{}}, null, {{"action": null}}] {{
		not {category}.{rule}_proven with input as odd
	}}
}}
"""


class NewRuleError(Exception):
    """The rule cannot be begun. The message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    category: str
    rule: str
    effect: str
    title: str
    description: str
    remediation: str
    # What can help (pdp/opa/bundle.py refuses any other).
    remedy: str = "ask"

    @property
    def code(self) -> str:
        return f"{self.category}.{self.rule}"

    def files(self, root: Path) -> dict[Path, str]:
        """The two files and what they say."""
        folder = root / "rego" / "placet" / "rules" / self.category
        said = {
            "category": self.category,
            "rule": self.rule,
            "effect": self.effect,
            "title": scalar(self.title, "  "),
            "description": scalar(self.description, "  "),
            "remedy": self.remedy,
            "remediation": scalar(self.remediation, "    "),
        }
        return {
            folder / f"{self.rule}.rego": RULE.format(**said),
            folder / f"{self.rule}_test.rego": TEST.format(**said),
        }

    def row(self) -> str:
        return f"| `{self.code}` | {self.effect} | {self.description} |"


def scalar(text: str, indent: str) -> str:
    """The text in YAML, inside an annotation: plain if that is short and safe, folded otherwise."""
    if len(text) <= 80 and re.fullmatch(r"[A-Za-z][^:#]*", text):
        return text
    return "\n".join([">-", *(f"# {indent}{line}" for line in textwrap.wrap(text, 100))])


def with_row(page: str, rule: Rule) -> str:
    """The page with the rule's row at its place in the order of codes. Raises `NewRuleError`."""
    lines = page.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if line.startswith(LAST_ROW)), None)
    if end is None:
        raise NewRuleError(f"docs/policies.md has no row {LAST_ROW}")
    start = end
    while lines[start - 1].startswith("| `"):
        start -= 1
    codes = [line.split("`")[1] for line in lines[start:end]]
    if rule.code in codes:
        raise NewRuleError(f"docs/policies.md has {rule.code} already")
    place = start + sum(code < rule.code for code in codes)
    return "".join([*lines[:place], rule.row() + "\n", *lines[place:]])


def begin(rule: Rule, root: Path) -> list[Path]:
    """Write everything, and return what was written. Raises `NewRuleError` before anything is."""
    for part in (rule.category, rule.rule):
        if not NAME.fullmatch(part):
            raise NewRuleError(f"{part!r} is no name: lower case, digits, single underscores")
    if rule.rule.endswith("_test"):
        raise NewRuleError("a file that ends in _test holds tests")
    for text in (rule.title, rule.description, rule.remediation):
        if not text.strip() or "|" in text or not text.isprintable():
            raise NewRuleError(f"{text!r} is no wording: one line of text, without |")
    files = rule.files(root)
    for path in files:
        if path.exists():
            raise NewRuleError(f"{path.relative_to(root)} exists")
    page = root / "docs" / "policies.md"
    files[page] = with_row(page.read_text(encoding="utf-8"), rule)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def main() -> int:
    parser = argparse.ArgumentParser(description="Begin a rule of the policy.")
    parser.add_argument("name", metavar="CATEGORY/RULE", help="payment/on_a_holiday, for instance")
    parser.add_argument("--effect", choices=("block", "escalate"), default="block")
    parser.add_argument("--title", default="TODO", help="what is wrong, in a few words")
    parser.add_argument("--description", default="TODO", help="the sentence that people read")
    parser.add_argument("--remediation", default="TODO", help="what can be done instead")
    parser.add_argument(
        "--remedy",
        choices=("change_call", "first", "wait", "ask", "none"),
        default="ask",
        help="what can help: the call may be corrected, something else comes first, time, a person, nothing",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    asked = parser.parse_args()
    category, _, rule = asked.name.partition("/")
    wanted = Rule(
        category=category,
        rule=rule,
        effect=asked.effect,
        title=asked.title,
        description=asked.description,
        remediation=asked.remediation,
        remedy=asked.remedy,
    )
    try:
        written = begin(wanted, asked.root)
    except NewRuleError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    print(*(path.relative_to(asked.root) for path in written), sep="\n")
    print("Now replace each TODO; `.venv/bin/python tools/rego_check.py` says whether all is well.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
