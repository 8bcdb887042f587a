"""A policy of many rules, most of them for one tool each, as a large tenant's would be."""

from __future__ import annotations

import shutil
from pathlib import Path

from pdp.opa.bundle import policy_sources

# The first line of the body names the tool: OPA indexes it and evaluates the rules for this tool alone.
_RULE = """\
package placet.rules.many

# METADATA
# scope: rule
# title: Limit of tool {number}
# description: Tool {number} is used for more than it may be.
block contains "many.tool_{number}" if {{
	input.action.tool.name == "tool.{number}"
	not tool_{number}_within
}}

tool_{number}_within if {{
	input.action.tool.name == "tool.{number}"
	input.action.amount.minor <= {limit}
}}
"""


def own() -> int:
    """Return how many rules the product has."""
    rules = (policy_sources() / "placet" / "rules").rglob("*.rego")
    return sum(1 for file in rules if not file.name.endswith("_test.rego"))


def write(directory: Path, number: int) -> Path:
    """The product's policy with as many more rules as make `number`; return the directory."""
    sources = directory / f"rules-{number}"
    shutil.copytree(policy_sources(), sources)
    folder = sources / "placet" / "rules" / "many"
    folder.mkdir()
    for n in range(number - own()):
        text = _RULE.format(number=n, limit=1000 + n)
        (folder / f"tool_{n}.rego").write_text(text, encoding="utf-8")
    return sources
