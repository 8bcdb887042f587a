package placet.rules.boundary

import data.placet.limits

# METADATA
# scope: rule
# title: Too many actions in a window
# description: As many actions as a boundary's window permits were allowed.
# custom:
#   remedy: wait
#   remediation: Wait until actions have left the window.
block contains "boundary.velocity" if "boundary.velocity" in limits.blocked

escalate contains "boundary.velocity" if "boundary.velocity" in limits.escalated

retry_after_seconds contains {"code": "boundary.velocity", "seconds": seconds} if {
	seconds := limits.delay("boundary.velocity")
}
