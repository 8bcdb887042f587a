package placet.rules.boundary

import data.placet.limits

# METADATA
# scope: rule
# title: Counterparty's total above the boundary
# description: Everything paid to this counterparty and this payment are more than a boundary permits.
# custom:
#   remedy: ask
#   remediation: Ask for what is left, or have the issuer open a session with a wider boundary.
block contains "boundary.counterparty_total" if "boundary.counterparty_total" in limits.blocked

escalate contains "boundary.counterparty_total" if "boundary.counterparty_total" in limits.escalated
