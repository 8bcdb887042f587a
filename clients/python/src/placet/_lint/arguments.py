"""Arguments that a registration names outside of ids and amounts: in roles, steps and the business key."""

from __future__ import annotations

from placet._lint.findings import Path
from placet._lint.registration import Registration, text, texts
from placet._lint.schema import Presence
from placet._lint.secrets import is_secret


def check_arguments(tool: Registration) -> None:
    """Add names that mean no argument, and what the named ones cannot be."""
    for name, role in tool.member("argument_roles").items():
        # Secret ones are looked at apart: a name that is wrong shows what was meant.
        if isinstance(name, str) and role != "secret":
            tool.argument(
                name,
                ("argument_roles", name),
                "role.unknown_argument",
                "the role says nothing",
                of_name=True,
            )
    for name in tool.member("normalise"):
        if isinstance(name, str) and name != text(tool.member("amount").get("argument")):
            _check_steps(tool, name, ("normalise", name))
    _check_business_key(tool)


def _check_steps(tool: Registration, name: str, path: Path) -> None:
    value = tool.argument(name, path, "normalise.unknown_argument", "its steps change nothing", of_name=True)
    if value is not None and value.presence is Presence.NAMED and "string" not in value.types:
        tool.add(
            "normalise.not_text",
            path,
            f"{name!r} is {' or '.join(sorted(value.types))} by the schema, and steps change text alone",
            of_name=True,
        )


def _check_business_key(tool: Registration) -> None:
    key = tool.form.get("business_key")
    if key is None:
        if tool.form.get("effect") == "pay":
            tool.add(
                "business_key.absent",
                (),
                "pays, and does not say by which arguments two calls are the same, so nothing finds "
                "duplicates: say business_key",
            )
        return
    at = ("business_key", "arguments")
    for path, name in texts(tool.member("business_key").get("arguments"), at):
        value = tool.argument(
            name, path, "business_key.unknown_argument", "calls that differ in what was meant are duplicates"
        )
        if is_secret(tool, name):
            tool.add("secret.in_key", path, f"keeps the secret argument {name!r}: make the key of others")
        if value is not None and value.presence is Presence.NAMED and not value.required:
            tool.add(
                "business_key.optional",
                path,
                f"{name!r} may be left out, and all calls without it are the same piece of business: put it "
                "into required",
            )
