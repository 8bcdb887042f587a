"""The failures that cross a boundary. A block is a value; these are not.

Every one of them means that the caller got no answer, and must not act.
"""

from collections.abc import Iterable


class PdpError(Exception):
    """A failure that the server's edge turns into a gRPC status."""

    @property
    def public(self) -> str:
        """What callers may read of it; the whole text is for operators."""
        return str(self)


class InvalidFieldError(PdpError):
    """The request is malformed. `field` is its path in the message, `reason` a sentence.

    `more` are further fields that are wrong, with reasons; `violations` has all of them.
    """

    def __init__(self, field: str, reason: str, *, more: Iterable[tuple[str, str]] = ()) -> None:
        self.field = field
        self.reason = reason
        self.violations = ((field, reason), *more)
        others = f" (and {len(self.violations) - 1} more)" if len(self.violations) > 1 else ""
        super().__init__(f"{field}: {reason}{others}")


class UnauthenticatedError(PdpError):
    """The caller did not say, or could not prove, who it is."""


class PermissionDeniedError(PdpError):
    """The caller's roles or identity do not permit this call."""


class NotFoundError(PdpError):
    """No such thing in the caller's tenant, or not the caller's to see."""


class TenantUnknownError(PdpError):
    """The tenant was never created."""


class TaskExistsError(PdpError):
    """The task already has a session, opened with something else."""


class SessionOverError(PdpError):
    """The session has ended, so this can no longer be done to it."""


class ChainRefusedError(PdpError):
    """The chain cannot be delegated from. `code` is what a decision on it would say."""

    def __init__(self, code: str, at: str) -> None:
        super().__init__(f"{at}: {code}")
        self.code = code
        self.at = at


class GrantExceedsParentError(PdpError):
    """The grant would permit what the one before it does not. `field` is its path in the message."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.reason = "is wider than the grant before it permits"
        if field.rpartition(".")[2] in {"total", "per_counterparty", "max_actions", "velocity"}:
            self.reason += "; one that is left out is no limit"
        super().__init__(f"{field}: {self.reason}")


class SessionUnprovenError(PdpError):
    """The caller speaks for an agent of the session, and does not prove its part in it."""

    def __init__(
        self, message: str = "session_token: show the session's token, or the chain that you act on"
    ) -> None:
        super().__init__(message)


class OutcomeRefusedError(PdpError):
    """The decision allowed nothing, so nothing can have become of it."""


class NotRedeemableError(PdpError):
    """The decision does not permit this action, here and now.

    `codes` are those of the reasons for which it would not be allowed now, if that is why.
    """

    def __init__(self, message: str, *, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.codes = codes


class SessionMovedError(PdpError):
    """What the decision was taken on no longer holds; judge again."""


class GroundMovedError(SessionMovedError):
    """An operator wrote meanwhile: the tenant's epoch is another than the decision was taken on."""


class SessionContendedError(PdpError):
    """The session moved under every attempt. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the session moved under every attempt")
        self.retry_after = retry_after


class PolicyUnavailableError(PdpError):
    """The engine gave no answer that can be used. `cause` is a metric label, not a sentence.

    Causes: connection, timeout, status, malformed, no_result, unknown_effect, no_reasons,
    no_revision, missing_id.
    """

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause

    @property
    def public(self) -> str:
        return f"the policy engine gave no answer that can be used ({self.cause})"


class StoreUnavailableError(PdpError):
    """The database does not answer, or refuses to write. Its own words may be in the text."""

    @property
    def public(self) -> str:
        return "the database is not available; the server's log says why"


class SignerUnavailableError(PdpError):
    """Nothing can be signed now."""


class OverloadedError(PdpError):
    """Too much is waiting. `retry_after` is in seconds.

    `others` says who else would be turned away now: "all", "hurried" (those with no more time
    left than this call), or "" where that says nothing about others.
    """

    def __init__(
        self, retry_after: float, *, others: str = "", message: str = "too much work is waiting"
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.others = others


class QuotaExceededError(OverloadedError):
    """A caller, or a tenant, asks for something more often than it may; nobody else is turned away.

    `quota` is the setting that says how often, or what is limited where nothing sets it. `size` says in words
    how often that is, `advice` what to do about it.
    """

    def __init__(self, retry_after: float, *, quota: str, size: str, advice: str) -> None:
        super().__init__(retry_after, message=f"a quota is used up: {size} ({quota}); {advice}")
        self.quota = quota
        self.size = size


class DeadlineExceededError(PdpError):
    """What is left of the caller's deadline is less than the work needs."""


class ClockSkewError(PdpError):
    """This machine's clock is too far from the database's for anybody to be believed; ask another replica."""


class DrainingError(PdpError):
    """This replica is stopping; another one answers."""
