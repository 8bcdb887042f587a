package placet.rules.payment

# METADATA
# scope: rule
# title: Currency differs
# description: The amount is in another currency than the record, the order, or what was paid on them before.
# custom:
#   remedy: change_call
#   remediation: Pay in the currency of the record.
block contains "payment.currency_mismatch" if {
	currency_mismatch_judged
	not currency_mismatch_disproven
	not currency_mismatch_moot
}

# Every call whose amount the registry measures against a record or an order. What is not known to
# be unmeasured is judged.
currency_mismatch_judged if input.action.tool.measured == true

currency_mismatch_judged if {
	input.action.tool.known == true
	not currency_mismatch_measured_known
}

currency_mismatch_measured_known if is_boolean(input.action.tool.measured)

currency_mismatch_disproven if {
	is_string(input.action.amount.currency)
	is_object(input.action.reference)
	every name in {"record", "order"} & object.keys(input.action.reference) {
		input.action.reference[name].currency == input.action.amount.currency
		currency_mismatch_as_paid(input.action.reference[name])
	}
}

currency_mismatch_as_paid(measure) if measure.paid.currency == input.action.amount.currency

# What is no payment counts nowhere.
currency_mismatch_as_paid(_) if {
	input.action.tool.effect in {"read", "write", "send", "delete", "share", "credential"}
}

# Blocked already, by the reason that explains it.
currency_mismatch_moot if "session.unknown" in data.placet.rules.session.block

currency_mismatch_moot if count(data.placet.rules.amount.block) > 0
