"""The policy engine over an OPA sidecar, and its administration."""

from pdp.opa.administration import OpaAdministration, OpaStatus
from pdp.opa.engine import EngineCall, OpaPolicyEngine

__all__ = ["EngineCall", "OpaAdministration", "OpaPolicyEngine", "OpaStatus"]
