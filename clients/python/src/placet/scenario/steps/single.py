"""Steps that can also run many times at once."""

from __future__ import annotations

from typing import Annotated

from placet.scenario.steps.choice import by_key, tag
from placet.scenario.steps.close import Close
from placet.scenario.steps.complete import Complete
from placet.scenario.steps.evaluate import Evaluate
from placet.scenario.steps.open import Open
from placet.scenario.steps.repeat import Repeat
from placet.scenario.steps.set_agents import SetAgents
from placet.scenario.steps.set_entities import SetEntities
from placet.scenario.steps.set_entity import SetEntity
from placet.scenario.steps.set_settings import SetSettings
from placet.scenario.steps.set_signals import SetSignals
from placet.scenario.steps.set_tools import SetTools

SINGLE = (
    Open,
    Evaluate,
    Repeat,
    Complete,
    Close,
    SetSettings,
    SetAgents,
    SetTools,
    SetEntities,
    SetEntity,
    SetSignals,
)
Single = Annotated[
    Annotated[Open, tag(Open.kind)]
    | Annotated[Evaluate, tag(Evaluate.kind)]
    | Annotated[Repeat, tag(Repeat.kind)]
    | Annotated[Complete, tag(Complete.kind)]
    | Annotated[Close, tag(Close.kind)]
    | Annotated[SetSettings, tag(SetSettings.kind)]
    | Annotated[SetAgents, tag(SetAgents.kind)]
    | Annotated[SetTools, tag(SetTools.kind)]
    | Annotated[SetEntities, tag(SetEntities.kind)]
    | Annotated[SetEntity, tag(SetEntity.kind)]
    | Annotated[SetSignals, tag(SetSignals.kind)],
    by_key(*SINGLE),
]
