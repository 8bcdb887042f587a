package placet.rules.payment

# METADATA
# scope: rule
# title: Order unknown
# description: The order that the call or its record names does not exist, or holds no amount that can be read.
# custom:
#   remedy: ask
#   remediation: Have the order entered, or the record corrected.
block contains "payment.order_unknown" if {
	order_unknown_judged
	not order_unknown_disproven
	not order_unknown_moot
}

# Every call whose amount the registry measures against a record or an order. What is not known to
# be unmeasured is judged.
order_unknown_judged if input.action.tool.measured == true

order_unknown_judged if {
	input.action.tool.known == true
	not order_unknown_measured_known
}

order_unknown_measured_known if is_boolean(input.action.tool.measured)

order_unknown_disproven if is_number(input.action.reference.order.minor)

# What names no order is measured against its record.
order_unknown_disproven if {
	input.action.reference.order_named == false
	input.action.tool.roles.record == true
}

# Blocked already, by the reason that explains it.
order_unknown_moot if "session.unknown" in data.placet.rules.session.block

order_unknown_moot if count(data.placet.rules.amount.block) > 0
