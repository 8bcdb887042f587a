"""Steps that can also run many times at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from placet.scenario.steps.choice import one_of
from placet.scenario.steps.close import Close
from placet.scenario.steps.complete import Complete
from placet.scenario.steps.delegate import Delegate
from placet.scenario.steps.evaluate import Evaluate
from placet.scenario.steps.open import Open
from placet.scenario.steps.outcome import ReportOutcome
from placet.scenario.steps.redeem import Redeem
from placet.scenario.steps.repeat import Repeat
from placet.scenario.steps.revoke import Revoke
from placet.scenario.steps.set_agents import SetAgents
from placet.scenario.steps.set_entities import SetEntities
from placet.scenario.steps.set_entity import SetEntity
from placet.scenario.steps.set_issuer import SetIssuer
from placet.scenario.steps.set_settings import SetSettings
from placet.scenario.steps.set_signals import SetSignals
from placet.scenario.steps.set_tools import SetTools
from placet.scenario.steps.step import Step

SINGLE = (
    Open,
    Delegate,
    Evaluate,
    Repeat,
    ReportOutcome,
    Redeem,
    Revoke,
    Complete,
    Close,
    SetSettings,
    SetAgents,
    SetTools,
    SetEntities,
    SetEntity,
    SetSignals,
    SetIssuer,
)
if TYPE_CHECKING:
    Single = Step
else:
    Single = one_of(*SINGLE)
