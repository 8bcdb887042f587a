"""How steps ask for actions: as whom, on which chain, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from placet._calls.plain import decision_json, plain
from placet.model import Decision, Hop
from placet.scenario import receipts
from placet.scenario.callers import AUDITOR, Caller, runtime
from placet.scenario.expect import ExpectDecision
from placet.scenario.forge import forge_chain
from placet.scenario.made import MadeCall
from placet.scenario.outcome import Outcome

if TYPE_CHECKING:
    from placet.scenario.run import Run
    from placet.scenario.steps.evaluate import Evaluate
    from placet.scenario.steps.plan import Plan
    from placet.scenario.steps.repeat import Repeat

Hops = Sequence[Hop | str | dict[str, Any]]


async def evaluate(run: Run, step: Evaluate) -> Outcome:
    """Ask for the step's action. Raises `PlacetError`, as every function here does."""
    return await _ask(run, step, _call(run, step), step.expect, step.replica)


async def repeat(run: Run, step: Repeat) -> Outcome:
    call = run.made.call(step.repeat)
    if step.arguments is None:
        return await _ask(run, call.step, call, step.expect, step.replica)
    # This is another action under the same id, so its answer is not noted as the call's.
    other = replace(call, step=call.step.model_copy(update={"arguments": step.arguments}))
    return await _ask(run, other.step, other, step.expect, step.replica)


async def plan(run: Run, step: Plan) -> Outcome:
    session, hops = run.made.session(step.plan), given_hops(run, step.chain)
    caller = step.as_ or _runtime(session.agent, hops)
    asked = [_call(run, item) for item in step.evaluations()]
    client = await run.client(caller, step.replica)
    decisions = await client.evaluate_plan(
        [call.step.action(call.call_id) for call in asked],
        session=session,
        chain=hops,
        all_or_nothing=step.all_or_nothing,
        audience=step.audience,
    )
    failures = [decision.failure for decision in decisions if decision.failure is not None]
    if failures:
        return Outcome(error=failures[0])
    many = []
    for call, decision in zip(asked, decisions, strict=True):
        call.caller = caller
        many.append(await _collect_outcome(run, call, decision, call.step.expect))
    return Outcome(many=many, told=", ".join(outcome.answer for outcome in many))


def given_hops(run: Run, said: list[str | dict[str, Any]] | str) -> Hops:
    """Return the hops that a step gives: itself, or by the name of a chain that was delegated."""
    return run.made.chain(said).hops if isinstance(said, str) else said


async def _hops_to_send(run: Run, step: Evaluate) -> Hops:
    """Return the hops that a step sends, forged if it says so."""
    if step.forge is None or not isinstance(step.chain, str):
        return given_hops(run, step.chain)
    other = await _open_again(run, step.session) if step.forge == "wrong_parent" else ""
    return forge_chain(step.forge, run.made.chain(step.chain).hops, other_root=other, claims=step.forged)


async def _open_again(run: Run, name: str) -> str:
    """Return another root grant of the session: whoever opens it again gets a new one."""
    opened = run.made.opened(name)
    client = await run.client(opened.opener)
    return (await client.open_session(**opened.terms)).grant


def _call(run: Run, step: Evaluate) -> MadeCall:
    """Return the call that a step asks for; a call with a name is the same call each time."""
    run.made.session(step.session)
    if step.call is None:
        run.made.unnamed += 1
        return MadeCall(step=step, call_id=f"unnamed-{run.made.unnamed}{run.suffix}")
    return run.made.calls.setdefault(step.call, MadeCall(step=step, call_id=f"{step.call}{run.suffix}"))


async def _ask(
    run: Run, step: Evaluate, call: MadeCall, expect: ExpectDecision, replica: int | None
) -> Outcome:
    session, hops = run.made.session(step.session), await _hops_to_send(run, step)
    call.caller = step.as_ or _runtime(session.agent, hops)
    client = await run.client(call.caller, replica)
    decision = await client.evaluate(
        step.action(call.call_id), session=session, chain=hops, audience=step.audience
    )
    if decision.failure is not None:
        return Outcome(error=decision.failure)
    return await _collect_outcome(run, call, decision, expect)


def _runtime(agent: str, hops: Hops) -> Caller:
    """Return a caller that runs the session's agent and those on the chain."""
    return runtime(*dict.fromkeys([agent, *_agents(hops)]))


def _agents(hops: Hops) -> Iterator[str]:
    for hop in hops:
        agent = hop if isinstance(hop, str) else hop.agent if isinstance(hop, Hop) else hop.get("agent")
        if agent:
            yield str(agent)


async def _collect_outcome(run: Run, call: MadeCall, decision: Decision, expect: ExpectDecision) -> Outcome:
    """Note the decision, and gather what the step's expectations look at beside it."""
    step = call.step
    call.decision = decision
    if step.call is not None:
        run.made.receipts.setdefault(step.call, decision.receipt)
    outcome = Outcome(decision=decision, values={"decision": decision_json(decision)})
    if expect.asks_session:
        issuer = await run.client(run.made.owner(step.session))
        outcome.values["session"] = plain(await issuer.get_session(run.made.session(step.session)))
    if expect.receipt is not None:
        outcome.claims = receipts.read_claims(decision.receipt)
        if expect.receipt.differs_from is not None:
            earlier = run.made.receipts.get(expect.receipt.differs_from.call, b"")
            outcome.earlier_claims = receipts.read_claims(earlier)
        outcome.receipt_checks = await _receipt_checks(run, decision, expect)
    return outcome


async def _receipt_checks(run: Run, decision: Decision, expect: ExpectDecision) -> dict[str, str]:
    asked = expect.receipt
    checks: dict[str, str] = {}
    if asked is None:
        return checks
    if asked.verified:
        checks["verified"] = receipts.check_verified(decision)
    if asked.tamper_evident and run.pdp.verifier is not None:
        checks["tamper_evident"] = receipts.check_tamper_evident(decision, run.pdp.verifier)
    if asked.recorded:
        auditor = await run.client(AUDITOR)
        recorded = await auditor.get_decision(decision.decision_id)
        checks["recorded"] = receipts.check_same(decision, recorded.receipt, "that decision in the ledger")
    if asked.same_as:
        first = run.made.receipts.get(asked.same_as, b"")
        checks["same_as"] = receipts.check_same(decision, first, f"call {asked.same_as}")
    return checks
