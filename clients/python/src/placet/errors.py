"""What the client raises.

Two families. `PlacetError` and its plain subclasses say that a call got no answer. `Blocked`
and its subclasses say that a tool must not run; they carry the decision, and a text that is
safe to show to a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import grpc

    from placet.model import Decision


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A field of the request that was refused, by its path, and why."""

    field: str
    description: str


class PlacetError(Exception):
    """A call got no answer that can be used.

    `code` is the gRPC status (None: the call was not made, or its answer is at fault),
    `reason` the stable reason of the server's ErrorInfo ("TASK_EXISTS"), `retry_after` when
    the server would like to be asked again, `request_id` what its log has of the call, `others`
    who else an overloaded server turns away now ("all", "hurried": whoever has no more time left).
    """

    # The reason code of the block that evaluate() makes of this failure.
    block_code: ClassVar[str] = "client.failed"

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: Iterable[Violation] = (),
        retry_after: timedelta | None = None,
        request_id: str = "",
        others: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.request_id = request_id
        self.others = others

    @property
    def field(self) -> str:
        """The path of the first field that was refused; empty if none was."""
        return self.violations[0].field if self.violations else ""

    def __reduce__(self) -> Any:
        # Keyword arguments do not survive pickling by themselves.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class InvalidRequestError(PlacetError):
    """The request is malformed; `field` names where."""

    block_code = "client.refused"


class UnauthenticatedError(PlacetError):
    """The server does not know who is calling."""

    block_code = "client.refused"


class PermissionDeniedError(PlacetError):
    """The caller may not make this call."""

    block_code = "client.refused"


class NotFoundError(PlacetError):
    """There is no such thing in the caller's tenant."""

    block_code = "client.refused"


class AlreadyExistsError(PlacetError):
    """There is a thing of that name already, and it differs."""

    block_code = "client.refused"


class PreconditionError(PlacetError):
    """The call makes no sense in the present state, for example for an unknown tenant."""

    block_code = "client.refused"


class ContendedError(PlacetError):
    """Others moved the session at the same time; ask again."""

    block_code = "client.contended"


class OverloadedError(PlacetError):
    """The server has too much to do; ask again later."""

    block_code = "client.overloaded"


class UnavailableError(PlacetError):
    """The server cannot be reached, or cannot answer now."""

    block_code = "client.unreachable"


class DeadlineError(PlacetError):
    """There was no answer in time."""

    block_code = "client.deadline"


class AnswerError(PlacetError):
    """There was an answer, and it is not what it should be."""

    block_code = "client.malformed"


class UnknownEffectError(AnswerError):
    """The answer's effect is none that this client knows."""

    block_code = "client.unknown_effect"


class UnknownObligationError(AnswerError):
    """The answer asks for something that this client does not understand."""

    block_code = "client.unknown_obligation"


class ReceiptMismatchError(AnswerError):
    """The receipt is missing, unreadable, not proven, or not for this answer to this action."""

    block_code = "client.receipt_mismatch"


class Blocked(PlacetError):
    """The tool must not run. `decision` says why."""

    def __init__(self, message: str, *, decision: Decision | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self._decision = decision

    @property
    def decision(self) -> Decision:
        """The decision that says why; for an exception that was made without one, a block that says so."""
        if self._decision is None:
            # Decisions are made of errors, so this module does not load theirs.
            nouns = importlib.import_module("placet.model")
            reason = nouns.Reason(
                code=self.block_code, effect=nouns.Effect.BLOCK, message="There is no decision."
            )
            self._decision = nouns.Decision(
                effect=nouns.Effect.BLOCK,
                reasons=(reason,),
                model_text=blocked_text("", self.block_code, retryable=False),
            )
        decision: Decision = self._decision
        return decision

    @property
    def model_text(self) -> str:
        """A short text that is safe to show to a model: it has codes and ids only."""
        return self.decision.model_text


class Escalated(Blocked):
    """A person would have to approve. Nobody can resolve that yet, so the tool does not run."""


class ExpiredAllow(Blocked):
    """There was an allow, and its time has passed."""

    @property
    def model_text(self) -> str:
        return blocked_text(
            self.decision.decision_id,
            "client.expired",
            retryable=False,
        )


class OutOfOrder(Blocked):
    """The allow is for an action that comes after another, which was not executed as far as is known here."""

    @property
    def model_text(self) -> str:
        return blocked_text(
            self.decision.decision_id,
            "client.out_of_order",
            retryable=False,
        )


class ReplayedAllow(Blocked):
    """This call was allowed before, for another attempt, which may have run the tool."""

    @property
    def model_text(self) -> str:
        decision_id = self.decision.decision_id
        return (
            f"POLICY_BLOCKED decision_id={decision_id or 'none'} reason_code=client.replayed_allow "
            "retryable=false. This call was allowed before; the tool was not executed again. "
            "Do not retry this call; tell the user."
        )


class ArgumentsChanged(Blocked):
    """The arguments are no longer those that were judged."""

    @property
    def model_text(self) -> str:
        return blocked_text(
            self.decision.decision_id,
            "client.arguments_changed",
            retryable=False,
        )


class PdpUnavailable(Blocked):
    """There is no usable answer, so the tool must not run. The cause is `__cause__`.

    `code`, `reason`, `violations`, `retry_after` and `request_id` are the cause's.
    """


class NotExecuted(Exception):
    """Raised by a guarded function that knows that it had no effect. The guard lets it through."""


def blocked_text(decision_id: str, code: str, *, retryable: bool) -> str:
    """Return the text for a model about a block of the client's own."""
    advice = "Try again later." if retryable else "Do not retry this call; tell the user."
    return (
        f"POLICY_BLOCKED decision_id={decision_id or 'none'} reason_code={code} "
        f"retryable={'true' if retryable else 'false'}. The tool was not executed. {advice}"
    )


def invalid(field: str, description: str) -> InvalidRequestError:
    """Return the error for a field that this client refuses itself."""
    return InvalidRequestError(
        f"{field}: {description}",
        reason="INVALID_FIELD",
        violations=[Violation(field=field, description=description)],
    )


def _rebuild(kind: type[PlacetError], args: tuple[Any, ...], state: dict[str, Any]) -> PlacetError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
