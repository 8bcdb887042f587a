"""What the fake is told became of its allows, and what it then says of their holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from placet.model import Decision, Effect, Outcome, Reported, Session, SessionState
from placet.testing.decisions import FakeDecisions, RecordedDecision
from placet.testing.script import Caller
from placet.testing.state import FakeState

_FINAL = (Outcome.EXECUTED, Outcome.FAILED, Outcome.NOT_EXECUTED)


class FakeOutcomes:
    """Outcomes and redemptions of recorded decisions."""

    def __init__(self, state: FakeState, decisions: FakeDecisions) -> None:
        self._state = state
        self._decisions = decisions
        # Every outcome that was reported, in order: decision and outcome.
        self.reported: list[tuple[str, str]] = []
        # What was said to have been returned, by decision.
        self.outputs: dict[str, bytes] = {}

    def report(
        self,
        caller: Caller,
        outcome: Outcome,
        *,
        decision_id: str,
        session_id: str,
        tool_call_id: str,
        attempt_id: str,
        output: bytes,
        proves: Callable[[Session], bool],
    ) -> Reported | None:
        """Note what became of an allow, named by its id or else by session and tool call.

        None: the caller may report on no such decision. `proves` says whether the caller proves its part in
        a session. Raises LookupError if it is no allow, PermissionError without that proof.
        """
        with self._state.lock:
            found = [
                (key, each)
                for key, each in self._decisions.recorded.items()
                if key[0] == caller.tenant
                and (
                    _is_heard(caller, each)
                    or each.caller.subject == caller.subject
                    or self._is_theirs(caller, each)
                )
                and (not attempt_id or each.decision.attempt_id == attempt_id)
                and (
                    key[1] == decision_id
                    or (each.decision.session_id, each.decision.tool_call_id) == (session_id, tool_call_id)
                )
            ]
            if not found:
                return None
            allows = [(key, each) for key, each in found if each.decision.effect is Effect.ALLOW]
            if not allows:
                raise LookupError("only an allow has an outcome")
            key, latest = allows[-1]
            session = self._state.find_session(caller.tenant, latest.decision.session_id)
            if not _is_heard(caller, latest) and session is not None and not proves(session):
                raise PermissionError("the caller does not prove its part in the session")
            # Nobody who acted or asked is believed that nothing happened: it would free what is held.
            acted = any(hop.agent in caller.agents for hop in latest.decision.chain)
            believed = _is_heard(caller, latest) and latest.caller.subject != caller.subject and not acted
            conflict = latest.outcome in _FINAL and outcome in _FINAL and outcome is not latest.outcome
            if latest.outcome not in _FINAL or (outcome is latest.outcome and believed):
                latest = replace(latest, outcome=outcome, believed=believed or latest.believed)
                self._decisions.recorded[key] = latest
            self.reported.append((key[1], str(outcome)))
            if output:
                self.outputs[key[1]] = output
            return Reported(decision_id=key[1], hold=latest.hold, conflict=conflict)

    def is_served(self, caller: Caller, decision_id: str) -> bool:
        """Return whether the caller serves the tool of a decision, and the audience of its receipt."""
        with self._state.lock:
            found = self._decisions.recorded.get((caller.tenant, decision_id))
            return found is not None and caller.serves(found.action.tool, found.audience)

    def redeem(
        self, caller: Caller, decision_id: str, tool: str, arguments: Mapping[str, Any], audience: str
    ) -> bool:
        """Use an allow once, for the action that it allows; return False if it cannot be used."""
        with self._state.lock:
            key = (caller.tenant, decision_id)
            found = self._decisions.recorded.get(key)
            if found is None or found.decision.effect is not Effect.ALLOW:
                return False
            assert found.decision.expires_at is not None
            session = self._state.find_session(caller.tenant, found.decision.session_id)
            if (
                found.redeemed
                or found.outcome is not None
                or self._state.now() >= found.decision.expires_at
                or session is None
                or session.state is not SessionState.OPEN
                or not found.audience
                # Nobody who asked redeems, and nothing pairs the credentials of a gateway here.
                or found.caller.subject == caller.subject
                or any(hop.agent in caller.agents for hop in found.decision.chain)
                or (found.action.tool, found.action.arguments, found.audience) != (tool, arguments, audience)
                or not all(self._was_executed(caller.tenant, earlier) for earlier in found.decision.after)
            ):
                return False
            self._decisions.recorded[key] = replace(found, redeemed=True)
            return True

    def list_open(self, tenant: str, after: str) -> list[Decision]:
        """Return the expired allows whose outcome nobody reported, by id, from `after` on."""
        with self._state.lock:
            return sorted(
                (
                    each.decision
                    for (owner, decision_id), each in self._decisions.recorded.items()
                    if owner == tenant
                    and decision_id > after
                    and each.decision.effect is Effect.ALLOW
                    and each.outcome is None
                    and each.decision.expires_at is not None
                    and self._state.now() >= each.decision.expires_at
                ),
                key=lambda decision: decision.decision_id,
            )

    def _is_theirs(self, caller: Caller, recorded: RecordedDecision) -> bool:
        """Whether the caller is the principal, the issuer or the agent of the decision's session."""
        session = self._state.find_session(caller.tenant, recorded.decision.session_id)
        return session is not None and (
            caller.subject == session.principal
            or (caller.subject == session.issuer and "session_issuer" in caller.roles)
            or (session.agent in caller.agents and "agent" in caller.roles)
        )

    def _was_executed(self, tenant: str, decision_id: str) -> bool:
        found = self._decisions.recorded.get((tenant, decision_id))
        return found is not None and (found.redeemed or found.outcome is Outcome.EXECUTED)


def _is_heard(caller: Caller, recorded: RecordedDecision) -> bool:
    """Whether the caller is an operator, or the side of the tool that the decision is on."""
    return "operator" in caller.roles or caller.serves(recorded.action.tool, recorded.audience)
