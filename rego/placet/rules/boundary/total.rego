package placet.rules.boundary

import data.placet.limits

# METADATA
# scope: rule
# title: Total above the boundary
# description: Everything paid so far and this payment are more than a boundary permits in all.
# custom:
#   remedy: ask
#   remediation: Ask for what is left, or have the issuer open a session with a wider boundary.
block contains "boundary.total" if "boundary.total" in limits.blocked

escalate contains "boundary.total" if "boundary.total" in limits.escalated
