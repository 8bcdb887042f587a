package placet.rules.payment

import data.placet.settings

# METADATA
# scope: rule
# title: Large amount
# description: The amount is above the threshold for acting without review.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve the action.
escalate contains "payment.large" if {
	large_judged
	not large_disproven
	not large_moot
}

# Every action that has an amount; a payment always.
large_judged if "amount" in object.keys(input.action)

large_judged if input.action.tool.effect == "pay"

# A currency without a threshold counts as large.
large_disproven if {
	amount := input.action.amount
	is_number(amount.minor)
	threshold := settings.effective.large_amount[amount.currency].minor
	is_number(threshold)
	amount.minor <= threshold
}

# Blocked already, for want of an amount that can be read.
large_moot if count(data.placet.rules.amount.block) > 0

findings contains object.union(measured, large_threshold) if {
	"payment.large" in escalate
	measured := {
		"code": "payment.large",
		"of": "settings",
		"unit": input.action.amount.currency,
		"added": input.action.amount.minor,
	}
}

default large_threshold := {}

large_threshold := {"limit": threshold} if {
	threshold := settings.effective.large_amount[input.action.amount.currency].minor
	is_number(threshold)
}
