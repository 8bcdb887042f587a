"""Every kind of step. A new one is a file beside this, and a line in each list here.

One that can run in parallel is in both lists of `single`, too.
"""

from __future__ import annotations

from typing import Annotated

from placet.scenario.steps.advance import Advance
from placet.scenario.steps.choice import by_key, tag
from placet.scenario.steps.close import Close
from placet.scenario.steps.complete import Complete
from placet.scenario.steps.evaluate import Evaluate
from placet.scenario.steps.kill import Kill
from placet.scenario.steps.open import Open
from placet.scenario.steps.parallel import Parallel
from placet.scenario.steps.repeat import Repeat
from placet.scenario.steps.restart import Restart
from placet.scenario.steps.set_agents import SetAgents
from placet.scenario.steps.set_entities import SetEntities
from placet.scenario.steps.set_entity import SetEntity
from placet.scenario.steps.set_settings import SetSettings
from placet.scenario.steps.set_signals import SetSignals
from placet.scenario.steps.set_tools import SetTools
from placet.scenario.steps.single import SINGLE

KINDS = (*SINGLE, Advance, Kill, Restart, Parallel)
AnyStep = Annotated[
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
    | Annotated[SetSignals, tag(SetSignals.kind)]
    | Annotated[Advance, tag(Advance.kind)]
    | Annotated[Kill, tag(Kill.kind)]
    | Annotated[Restart, tag(Restart.kind)]
    | Annotated[Parallel, tag(Parallel.kind)],
    by_key(*KINDS),
]
