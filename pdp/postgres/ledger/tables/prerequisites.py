"""Answers to actions that others may name as their prerequisite, and which allow consumed which of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pdp.action.prerequisites import MAX_ALLOWS, update_answer
from pdp.model import Effect, PriorAnswer, Recording
from pdp.postgres.access.arrays import texts
from pdp.postgres.access.connection import Connection
from pdp.postgres.columns import Columns, RowParameters
from pdp.postgres.ledger.tables.table import BatchParts, Row, RowLock, RowWrite, WonBatch
from pdp.postgres.rows import KEPT_ALLOWS, prerequisite_allow_text


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
    # An array literal (PostgreSQL manual, 8.15.6). What is kept of an allow needs no quoting in it.
    allows: str


class _Answered(NamedTuple):
    """What a batch answers to one prerequisite."""

    answer: PriorAnswer
    decision_id: str
    # Allows, and nothing else: those that are known from before stay.
    adds: bool


_Place = tuple[str, str, str, str]
_ANSWER = RowParameters(**dict.fromkeys(_AnswerRow._fields, texts))
# Sorted, and each once: later answers of the batch replace earlier ones before they come here.
_PUT = f"""
    INSERT INTO placet.prerequisites AS y ({_ANSWER.sql})
    SELECT n.tenant, n.session_id, n.tool, n.arguments, n.effect, n.decision_id, n.waited = 'true',
           n.minor::bigint, n.currency, n.allows::text[]
    FROM {_ANSWER.unnest("n")}
    ON CONFLICT (tenant, session_id, tool, arguments)
    DO UPDATE SET effect = EXCLUDED.effect, decision_id = EXCLUDED.decision_id,
                  waited = y.waited OR EXCLUDED.waited, minor = EXCLUDED.minor, currency = EXCLUDED.currency,
                  allows = """
_ADD_ALLOWS = f"""{_PUT} (
        SELECT (k.allows || EXCLUDED.allows)[
            greatest(1, cardinality(k.allows) + cardinality(EXCLUDED.allows) - {MAX_ALLOWS - 1}):]
        FROM (SELECT {KEPT_ALLOWS} AS allows) k
    )
"""
_REPLACE = _PUT + "EXCLUDED.allows"
# `pdp.action.prerequisites`: a block ends no waiting for a person.
_REPLACE_BY_BLOCK = _REPLACE + " WHERE y.effect <> 'escalate'"


async def put_answers(connection: Connection, batch: WonBatch) -> None:
    """Write the latest answer to each action that others may name as their prerequisite."""
    answered, blocked = _answers(batch.recordings)
    for put, rows in (
        (_ADD_ALLOWS, _rows(answered, adding=True)),
        (_REPLACE, _rows(answered, adding=False)),
        (_REPLACE_BY_BLOCK, _rows(blocked, adding=False)),
    ):
        if rows:
            await connection.execute(put, _ANSWER.arrays_of(rows), prepare=True)


def _answers(recordings: Sequence[Recording]) -> tuple[dict[_Place, _Answered], dict[_Place, _Answered]]:
    """Return the latest answer to each prerequisite but blocks, and those that were blocked after it."""
    answered: dict[_Place, _Answered] = {}
    blocked: dict[_Place, _Answered] = {}
    for recording in recordings:
        effect, decision_id = recording.decision.effect, recording.decision.decision_id
        for own in recording.own_keys:
            place = (recording.key.tenant, recording.key.session_id, own.tool, own.arguments)
            if effect is Effect.BLOCK:
                answer = update_answer(None, effect, decision_id=decision_id, amount=own.amount)
                blocked[place] = _Answered(answer, decision_id, adds=False)
                continue
            before, was_blocked = answered.get(place), blocked.pop(place, None) is not None
            waited = before is not None and before.answer.waited
            answer = update_answer(
                None if before is None or was_blocked else before.answer,
                effect,
                decision_id=decision_id,
                amount=own.amount,
            )
            adds = effect is Effect.ALLOW and not was_blocked and (before is None or before.adds)
            answered[place] = _Answered(
                answer._replace(waited=answer.waited or waited), decision_id, adds=adds
            )
    return answered, blocked


def _rows(answers: dict[_Place, _Answered], *, adding: bool) -> list[_AnswerRow]:
    """Return the rows of those answers that add to what is there, or of the others, by their keys."""
    found: Iterable[tuple[_Place, _Answered]] = sorted(answers.items(), key=lambda item: item[0])
    return [_answer_row(place, answered) for place, answered in found if answered.adds is adding]


def _answer_row(place: _Place, answered: _Answered) -> _AnswerRow:
    tenant, session_id, tool, arguments = place
    answer = answered.answer
    amount = answer.allows[-1].amount if answer.allows else None
    kept = [prerequisite_allow_text(allow.decision_id, allow.amount) for allow in answer.allows]
    return _AnswerRow(
        tenant=tenant,
        session_id=session_id,
        tool=tool,
        arguments=arguments,
        effect=answer.effect.value,
        decision_id=answered.decision_id,
        waited="true" if answer.waited else "false",
        minor=None if amount is None else str(amount.minor),
        currency=None if amount is None else amount.currency,
        allows="{" + ",".join(f'"{text}"' for text in kept) + "}",
    )


def _wanted(batch: BatchParts) -> list[Row]:
    return sorted(
        {(tenant, allow.decision_id) for tenant, kept in batch.reservations for allow in kept.consumes}
    )


def _found(tenant: str, decision_id: str, uses: list[str]) -> tuple[tuple[str, str], frozenset[str]]:
    return (tenant, decision_id), frozenset(uses)


_FOUND = Columns(_found)
_ALLOW = RowParameters(tenant=texts, decision_id=texts)
# Whoever consumes an allow moves its session, whose row was locked before: nobody adds to these meanwhile.
READ_USES = RowLock(
    wanted=_wanted,
    parameters=_ALLOW,
    statement=f"""
        SELECT {_FOUND.select("r", uses="x.uses")}
        FROM {_ALLOW.unnest("r")}
        CROSS JOIN LATERAL (
            SELECT array_agg(u.used_by) AS uses
            FROM placet.prerequisite_uses u
            WHERE u.tenant = r.tenant AND u.decision_id = r.decision_id
        ) x
        WHERE x.uses IS NOT NULL
    """,
    make=_FOUND.make,
)


_USE = RowParameters(tenant=texts, decision_id=texts, used_by=texts)
INSERT_USES = RowWrite(
    name="consumed",
    rows=lambda batch: [
        (recording.key.tenant, allow.decision_id, recording.decision.decision_id)
        for recording in batch.recordings
        if recording.reservation is not None
        for allow in recording.reservation.consumes
    ],
    statement=f"""
        INSERT INTO placet.prerequisite_uses ({_USE.sql})
        SELECT {_USE.select("n")} FROM {_USE.unnest("n")}
        RETURNING 1
    """,
    parameters=lambda _, rows: _USE.arrays_of(rows),
)
