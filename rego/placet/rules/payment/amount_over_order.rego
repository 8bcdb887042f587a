package placet.rules.payment

import data.placet.settings

# METADATA
# scope: rule
# title: Amount far above the order
# description: The amount is more than the tenant's multiple of the order, or of the record.
# custom:
#   remedy: ask
#   remediation: Ask for an amount that the order covers.
block contains "payment.amount_over_order" if {
	amount_over_order_judged
	not amount_over_order_disproven
	not amount_over_order_moot
}

# Every call whose amount the registry measures against a record or an order. What is not known to
# be unmeasured is judged.
amount_over_order_judged if input.action.tool.measured == true

amount_over_order_judged if {
	input.action.tool.known == true
	not amount_over_order_measured_known
}

amount_over_order_measured_known if is_boolean(input.action.tool.measured)

amount_over_order_disproven if {
	limit := settings.effective.variance_block_factor.ppm
	is_number(limit)
	measures := {"record", "order"} & object.keys(input.action.reference)
	count(measures) == input.action.reference.measures
	every name in measures {
		is_number(input.action.reference[name].excess_ppm)
		input.action.reference[name].excess_ppm + 1000000 <= limit
	}
}

# Blocked already, by the reason that explains it.
amount_over_order_moot if "session.unknown" in data.placet.rules.session.block

amount_over_order_moot if count(data.placet.rules.amount.block) > 0

# Whatever lacks both is blocked as an unknown record or order.
amount_over_order_moot if {
	is_object(input.action.reference)
	count({"record", "order"} & object.keys(input.action.reference)) == 0
}

findings contains {
	"code": "payment.amount_over_order",
	"of": name,
	"unit": reference.currency,
	"added": input.action.amount.minor,
	"limit": floor((reference.minor * tolerated) / 1000000),
} if {
	"payment.amount_over_order" in block
	tolerated := settings.effective.variance_block_factor.ppm
	is_number(tolerated)
	some name in {"record", "order"}
	reference := input.action.reference[name]
	is_number(reference.minor)
	reference.currency == input.action.amount.currency
	amount_over_order_limit_passed(reference, tolerated)
}

amount_over_order_limit_passed(reference, tolerated) if reference.excess_ppm + 1000000 > tolerated
