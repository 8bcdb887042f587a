package placet.rules.payment

import data.placet.limits

# METADATA
# scope: rule
# title: Much to one counterparty
# description: The session pays this counterparty more than the tenant permits without review.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve the action.
block contains "payment.counterparty_total" if "payment.counterparty_total" in limits.blocked

escalate contains "payment.counterparty_total" if "payment.counterparty_total" in limits.escalated
