"""Arguments that say where something goes, and that nothing judges: the `bcc` beside a `to`."""

from __future__ import annotations

from placet._lint.ids import names_in_ids
from placet._lint.registration import Registration, text
from placet._lint.schema import ELEMENTS, Presence, SchemaUnclearError
from placet._spelling import words, words_of

_WORDS = words(
    "cc bcc recipient recipients destination destinations dest dst target targets url urls uri uris "
    "endpoint webhook callback path paths filepath folder directory account accounts iban bic payee "
    "payees beneficiary beneficiaries receiver receivers addressee email emails mailto host hostname "
    "domain channel channels bucket participants attendees invitees phone wallet redirect repo repository"
)
# A name that only begins or ends with one of these is that of a target: `to`, `send_to`, `to_account`.
_ENDS = frozenset({"to"})
# With one of these the name is that of a number, a time or a switch about a target.
_ABOUT = words(
    "date time from since until at valid type kind format count limit size length depth max min mode "
    "enabled verified template version balance status filter sort encoding timeout"
)
# Roles by which the operator has said that an argument is no target.
_NO_TARGETS = frozenset({"content", "secret", "other", "attachment", "profile"})


def check_targets(tool: Registration) -> None:
    """Add arguments that look like targets and that neither resource nor entities are derived from."""
    if tool.schema is None:
        return
    judged = set(names_in_ids(tool))
    amount = tool.member("amount")
    judged |= {text(amount.get("argument")), text(amount.get("currency_argument"))}
    roles = tool.member("argument_roles")
    # What is inside of a target that was found follows it at once; no way is as long as this one.
    outer: tuple[str, ...] = ("",) * 99
    try:
        for way in tool.schema.paths():
            role = text(roles.get(way[0]))
            if way[0] in judged or way[-1] == ELEMENTS or role in _NO_TARGETS:
                continue
            by_role = role == "destination" and len(way) == 1
            if not by_role and not looks_like_target(way[-1]):
                continue
            value = tool.schema.at(way)
            if value.presence is not Presence.NAMED or value.listed:
                continue
            if not by_role and not value.types & {"string", "array", "object"}:
                continue
            if way[: len(outer)] == outer:
                continue
            outer = way
            shown = ".".join(way).replace(f".{ELEMENTS}", ELEMENTS)
            why = "has the role destination" if by_role else "looks like a target"
            tool.add(
                "target.unjudged",
                ("argument_roles", way[0]) if by_role else ("arguments_schema", *(value.path or ())),
                f"{shown!r} {why}, and nothing judges it: derive the resource or an entity from it, let the "
                "schema list its values, or say by its role that it is none",
                of_name=True,
            )
    except SchemaUnclearError:
        return


def looks_like_target(name: str) -> bool:
    """Return whether an argument of this name most likely says where something goes."""
    parts = words_of(name)
    # The id of a mail names what there is, and no address.
    if not parts or _ABOUT & set(parts) or parts[-2:] in (["email", "id"], ["message", "id"]):
        return False
    return bool(_WORDS & set(parts)) or parts[0] in _ENDS or parts[-1] in _ENDS
