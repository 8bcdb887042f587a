"""What is wrong, or doubtful, in the registration of a tool: one judgement for commands, client and server.

Pure: registrations are the plain values that files of tools hold (docs/tools.md), findings say where in them.
Start at `tools.lint_tools`.
"""

from placet._lint.findings import CODES, Finding, Severity, written
from placet._lint.tools import lint_each, lint_tools

__all__ = ["CODES", "Finding", "Severity", "lint_each", "lint_tools", "written"]
