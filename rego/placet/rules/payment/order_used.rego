package placet.rules.payment

import data.placet.settings

# METADATA
# scope: rule
# title: Order used up
# description: With what was paid on the order or the record before, the amount is more than there is.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve the difference.
block contains "payment.order_used" if {
	order_used_beyond
	not order_used_escalates
}

escalate contains "payment.order_used" if {
	order_used_beyond
	order_used_escalates
}

order_used_escalates if settings.effective.order_used.on_exceed == "escalate"

order_used_beyond if {
	order_used_judged
	not order_used_disproven
	not order_used_moot
}

# Every payment whose amount the registry measures against a record or an order. What is not known to
# be unmeasured, or no payment, is judged.
order_used_judged if {
	input.action.tool.measured == true
	not order_used_other_effect
}

order_used_judged if {
	input.action.tool.known == true
	not order_used_measured_known
	not order_used_other_effect
}

order_used_measured_known if is_boolean(input.action.tool.measured)

order_used_other_effect if {
	input.action.tool.effect in {"read", "write", "send", "delete", "share", "credential"}
}

order_used_disproven if {
	measures := {"record", "order"} & object.keys(input.action.reference)
	count(measures) == input.action.reference.measures
	every name in measures {
		order_used_within(input.action.reference[name].paid)
	}
}

# The first payment is for the rules on one amount.
order_used_within(paid) if {
	is_number(paid.used)
	paid.used == 0
}

# The tolerance is granted once, on the sum.
order_used_within(paid) if {
	is_number(paid.used)
	limit := settings.effective.po_tolerance.ppm
	is_number(limit)
	is_number(paid.excess_ppm)
	paid.excess_ppm <= limit
}

# Blocked already, by the reason that explains it.
order_used_moot if "session.unknown" in data.placet.rules.session.block

order_used_moot if count(data.placet.rules.amount.block) > 0

# The same business over again is blocked for that.
order_used_moot if {
	duplicate_judged
	not duplicate_disproven
}

# Whatever lacks both is blocked as an unknown record or order.
order_used_moot if {
	is_object(input.action.reference)
	count({"record", "order"} & object.keys(input.action.reference)) == 0
}

findings contains object.union(
	{
		"code": "payment.order_used",
		"of": name,
		"unit": paid.currency,
		"used": paid.used,
	},
	{figure: paid[of] | some figure, of in order_used_figures(name); is_number(paid[of])},
) if {
	order_used_beyond
	some name in {"record", "order"}
	paid := input.action.reference[name].paid
	paid.used > 0
	not order_used_within(paid)
}

# What a refusal calls the figures of what was paid: those in the currency of what was paid.
order_used_figures(name) := {"added": "add", "limit": "total", "open": "open", "unposted": "unposted"} if {
	measure := input.action.reference[name]
	{measure.currency, input.action.amount.currency} == {measure.paid.currency}
} else := {}
