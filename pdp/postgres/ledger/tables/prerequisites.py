"""Answers to actions that others may name as their prerequisite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pdp.action.prerequisites import update_answer
from pdp.model import Effect, PriorAnswer, Recording
from pdp.postgres.access.arrays import texts
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import RowParameters
from pdp.postgres.ledger.tables.table import WonBatch


class _AnswerRow(NamedTuple):
    """The answer to an action that others may name as their prerequisite; all of it as text."""

    tenant: str
    session_id: str
    tool: str
    arguments: str
    effect: str
    decision_id: str
    waited: str
    minor: str | None
    currency: str | None


_ANSWER = RowParameters(**dict.fromkeys(_AnswerRow._fields, texts))
# Sorted, and each once: later answers of the batch replace earlier ones before they come here.
_PUT_ANSWER = f"""
    INSERT INTO placet.prerequisites AS p ({_ANSWER.sql})
    SELECT n.tenant, n.session_id, n.tool, n.arguments, n.effect, n.decision_id, n.waited = 'true',
           n.minor::bigint, n.currency
    FROM {_ANSWER.unnest("n")}
    ON CONFLICT (tenant, session_id, tool, arguments)
    DO UPDATE SET effect = EXCLUDED.effect, decision_id = EXCLUDED.decision_id,
                  waited = p.waited OR EXCLUDED.waited, minor = EXCLUDED.minor, currency = EXCLUDED.currency
"""
# `pdp.action.prerequisites`: a block ends no waiting for a person.
_PUT_BLOCK = _PUT_ANSWER + " WHERE p.effect <> 'escalate'"


async def put_answers(connection: Connection, batch: WonBatch) -> None:
    """Write the latest answer to each action that others may name as their prerequisite."""
    for put, rows in zip((_PUT_ANSWER, _PUT_BLOCK), _answers(batch.recordings), strict=True):
        if rows:
            await connection.execute(put, _ANSWER.arrays_of(rows), prepare=True)


def _answers(recordings: Sequence[Recording]) -> tuple[list[_AnswerRow], list[_AnswerRow]]:
    """Return the latest answer to each prerequisite but blocks, and those that were blocked after it.

    Both are in the order of the rows' keys.
    """
    answered: dict[tuple[str, str, str, str], tuple[PriorAnswer, str]] = {}
    blocked: dict[tuple[str, str, str, str], tuple[PriorAnswer, str]] = {}
    for recording in recordings:
        effect, decision_id = recording.decision.effect, recording.decision.decision_id
        for own in recording.own_keys:
            place = (recording.key.tenant, recording.key.session_id, own.tool, own.arguments)
            if effect is Effect.BLOCK:
                blocked[place] = (update_answer(None, effect, own.amount), decision_id)
            else:
                blocked.pop(place, None)
                before, _ = answered.get(place, (None, ""))
                answered[place] = (update_answer(before, effect, own.amount), decision_id)
    first, then = (
        [_answer_row(place, *answer) for place, answer in sorted(rows.items())]
        for rows in (answered, blocked)
    )
    return first, then


def _answer_row(place: tuple[str, str, str, str], answer: PriorAnswer, decision_id: str) -> _AnswerRow:
    tenant, session_id, tool, arguments = place
    amount = answer.amount
    return _AnswerRow(
        tenant=tenant,
        session_id=session_id,
        tool=tool,
        arguments=arguments,
        effect=answer.effect.value,
        decision_id=decision_id,
        waited="true" if answer.waited else "false",
        minor=None if amount is None else str(amount.minor),
        currency=None if amount is None else amount.currency,
    )
