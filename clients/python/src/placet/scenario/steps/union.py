"""Every kind of step. A new one is a file beside this, and a name in the list here or in `single`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from placet.scenario.steps.advance import Advance
from placet.scenario.steps.choice import one_of
from placet.scenario.steps.kill import Kill
from placet.scenario.steps.parallel import Parallel
from placet.scenario.steps.plan import Plan
from placet.scenario.steps.restart import Restart
from placet.scenario.steps.single import SINGLE
from placet.scenario.steps.step import Step

KINDS = (*SINGLE, Plan, Advance, Kill, Restart, Parallel)
if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = one_of(*KINDS)
