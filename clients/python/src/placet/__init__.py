"""Placet: ask before an agent acts, and prove what was answered.

`Client` and `AsyncClient` ask; `guard` runs a function on ALLOW only; `placet.receipt` and
`placet.verify` check receipts offline; `placet.testing` has a fake PDP for tests.

Names are loaded when they are first used, so that the formats can be used without gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from placet._guard.carried import copy_context as copy_context
    from placet._guard.decided import decided as decided
    from placet.async_client import AsyncClient as AsyncClient
    from placet.client import Client as Client
    from placet.credentials import TlsCredentials as TlsCredentials
    from placet.enforce import current_decision as current_decision
    from placet.enforce import tool_call as tool_call
    from placet.errors import AlreadyExistsError as AlreadyExistsError
    from placet.errors import AnswerError as AnswerError
    from placet.errors import ArgumentsChanged as ArgumentsChanged
    from placet.errors import Blocked as Blocked
    from placet.errors import ContendedError as ContendedError
    from placet.errors import DeadlineError as DeadlineError
    from placet.errors import Escalated as Escalated
    from placet.errors import ExpiredAllow as ExpiredAllow
    from placet.errors import InvalidRequestError as InvalidRequestError
    from placet.errors import NotExecuted as NotExecuted
    from placet.errors import NotFoundError as NotFoundError
    from placet.errors import OutOfOrder as OutOfOrder
    from placet.errors import OverloadedError as OverloadedError
    from placet.errors import PdpUnavailable as PdpUnavailable
    from placet.errors import PermissionDeniedError as PermissionDeniedError
    from placet.errors import PlacetError as PlacetError
    from placet.errors import PreconditionError as PreconditionError
    from placet.errors import ReplayedAllow as ReplayedAllow
    from placet.errors import UnauthenticatedError as UnauthenticatedError
    from placet.errors import UnavailableError as UnavailableError
    from placet.errors import Violation as Violation
    from placet.identity import DevIdentity as DevIdentity
    from placet.model import Action as Action
    from placet.model import Agent as Agent
    from placet.model import AllowedTool as AllowedTool
    from placet.model import AmountLimit as AmountLimit
    from placet.model import AmountRole as AmountRole
    from placet.model import AttributeRule as AttributeRule
    from placet.model import Attribution as Attribution
    from placet.model import Boundary as Boundary
    from placet.model import Chain as Chain
    from placet.model import ChainHop as ChainHop
    from placet.model import ChainLink as ChainLink
    from placet.model import Change as Change
    from placet.model import ControlKind as ControlKind
    from placet.model import Decision as Decision
    from placet.model import Effect as Effect
    from placet.model import Figures as Figures
    from placet.model import Grant as Grant
    from placet.model import HoldState as HoldState
    from placet.model import Hop as Hop
    from placet.model import IssuerKeys as IssuerKeys
    from placet.model import LimitStatus as LimitStatus
    from placet.model import Obligation as Obligation
    from placet.model import OnExceed as OnExceed
    from placet.model import OpenDecision as OpenDecision
    from placet.model import Outcome as Outcome
    from placet.model import PolicyRevision as PolicyRevision
    from placet.model import Position as Position
    from placet.model import Preview as Preview
    from placet.model import ProofRevocation as ProofRevocation
    from placet.model import Reason as Reason
    from placet.model import ReceiptStatus as ReceiptStatus
    from placet.model import Remedy as Remedy
    from placet.model import Replacement as Replacement
    from placet.model import Reported as Reported
    from placet.model import ResourceRule as ResourceRule
    from placet.model import Review as Review
    from placet.model import SchemaViolation as SchemaViolation
    from placet.model import Session as Session
    from placet.model import SessionState as SessionState
    from placet.model import SessionWarning as SessionWarning
    from placet.model import SettingsVersion as SettingsVersion
    from placet.model import Signal as Signal
    from placet.model import Simulation as Simulation
    from placet.model import Task as Task
    from placet.model import Tool as Tool
    from placet.model import ToolEffect as ToolEffect
    from placet.model import ToolFinding as ToolFinding
    from placet.model import VelocityLimit as VelocityLimit

_HOMES = {
    "placet.async_client": ("AsyncClient",),
    "placet.client": ("Client",),
    "placet.credentials": ("TlsCredentials",),
    "placet._guard.carried": ("copy_context",),
    "placet._guard.decided": ("decided",),
    "placet.enforce": ("current_decision", "tool_call"),
    "placet.errors": (
        "AlreadyExistsError",
        "AnswerError",
        "ArgumentsChanged",
        "Blocked",
        "ContendedError",
        "DeadlineError",
        "Escalated",
        "ExpiredAllow",
        "InvalidRequestError",
        "NotExecuted",
        "NotFoundError",
        "OutOfOrder",
        "OverloadedError",
        "PdpUnavailable",
        "PermissionDeniedError",
        "PlacetError",
        "PreconditionError",
        "ReplayedAllow",
        "UnauthenticatedError",
        "UnavailableError",
        "Violation",
    ),
    "placet.identity": ("DevIdentity",),
    "placet.model": (
        "Action",
        "Agent",
        "AllowedTool",
        "AmountLimit",
        "AmountRole",
        "AttributeRule",
        "Attribution",
        "Boundary",
        "Chain",
        "ChainHop",
        "ChainLink",
        "Change",
        "ControlKind",
        "Decision",
        "Effect",
        "Figures",
        "Grant",
        "HoldState",
        "Hop",
        "IssuerKeys",
        "LimitStatus",
        "Obligation",
        "OnExceed",
        "OpenDecision",
        "Outcome",
        "PolicyRevision",
        "Position",
        "ProofRevocation",
        "Reason",
        "Reported",
        "ReceiptStatus",
        "Remedy",
        "Preview",
        "Replacement",
        "ResourceRule",
        "Review",
        "SchemaViolation",
        "Session",
        "SessionState",
        "SessionWarning",
        "SettingsVersion",
        "Signal",
        "Simulation",
        "Task",
        "Tool",
        "ToolEffect",
        "ToolFinding",
        "VelocityLimit",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
