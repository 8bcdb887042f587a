"""The policy engine: OPA beside the server, the bundle it loads, and the state it is in."""

from pdp.opa.administration import OpaAdministration, OpaStatus
from pdp.opa.engine import EngineCall, OpaPolicyEngine

__all__ = ["EngineCall", "OpaAdministration", "OpaPolicyEngine", "OpaStatus"]
