package placet.rules.payment

# METADATA
# scope: rule
# title: Record unknown
# description: The record that the call is about does not exist, or holds no amount that can be read.
# custom:
#   remedy: ask
#   remediation: Have the record entered, or its amount corrected.
block contains "payment.record_unknown" if {
	record_unknown_judged
	not record_unknown_disproven
	not record_unknown_moot
}

# Every call whose amount the registry measures against a record or an order. What is not known to
# be unmeasured is judged.
record_unknown_judged if input.action.tool.measured == true

record_unknown_judged if {
	input.action.tool.known == true
	not record_unknown_measured_known
}

record_unknown_measured_known if is_boolean(input.action.tool.measured)

record_unknown_disproven if input.action.tool.roles.record == false

record_unknown_disproven if {
	input.action.reference.record_known == true
	is_number(input.action.reference.record.minor)
}

# Measured against its order, a record need not hold an amount. One that cannot be read is not none.
record_unknown_disproven if {
	input.action.reference.record_known == true
	input.action.reference.record_readable == true
	input.action.reference.order_named == true
}

# Blocked already, by the reason that explains it.
record_unknown_moot if "session.unknown" in data.placet.rules.session.block

record_unknown_moot if count(data.placet.rules.amount.block) > 0
