package placet.rules.limit

import data.placet.limits

# METADATA
# scope: rule
# title: Budget used up
# description: This payment is more than what is left of a budget.
# custom:
#   remedy: wait
#   remediation: Wait for the window to move, ask for less, or have a reviewer approve it.
block contains "limit.budget" if "limit.budget" in limits.blocked

escalate contains "limit.budget" if "limit.budget" in limits.escalated

retry_after_seconds contains {"code": "limit.budget", "seconds": seconds} if {
	seconds := limits.delay("limit.budget")
}
