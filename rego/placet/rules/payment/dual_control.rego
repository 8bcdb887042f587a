package placet.rules.payment

import data.placet.settings

# METADATA
# scope: rule
# title: Dual control
# description: The amount is so large that two people must approve it.
# custom:
#   remedy: ask
#   remediation: Two reviewers may approve the action.
escalate contains "payment.dual_control" if {
	dual_control_judged
	not dual_control_disproven
	not dual_control_moot
}

# Every action that has an amount; a payment always.
dual_control_judged if "amount" in object.keys(input.action)

dual_control_judged if input.action.tool.effect == "pay"

# A currency without a threshold needs two people.
dual_control_disproven if {
	amount := input.action.amount
	is_number(amount.minor)
	threshold := settings.effective.dual_control_amount[amount.currency].minor
	is_number(threshold)
	amount.minor < threshold
}

# Blocked already, for want of an amount that can be read.
dual_control_moot if count(data.placet.rules.amount.block) > 0

findings contains object.union(measured, dual_control_threshold) if {
	"payment.dual_control" in escalate
	measured := {
		"code": "payment.dual_control",
		"of": "settings",
		"unit": input.action.amount.currency,
		"added": input.action.amount.minor,
	}
}

default dual_control_threshold := {}

dual_control_threshold := {"limit": threshold} if {
	threshold := settings.effective.dual_control_amount[input.action.amount.currency].minor
	is_number(threshold)
}
