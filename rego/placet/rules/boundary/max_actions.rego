package placet.rules.boundary

import data.placet.limits

# METADATA
# scope: rule
# title: Too many actions
# description: A boundary permits no further action.
# custom:
#   remedy: ask
#   remediation: Have the issuer open a session with a wider boundary.
block contains "boundary.max_actions" if "boundary.max_actions" in limits.blocked
