package placet.rules.payment

import data.placet.settings

# METADATA
# scope: rule
# title: Amount above the order
# description: The amount is more than the order or the record by more than the tenant tolerates.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve the difference.
escalate contains "payment.price_variance" if {
	price_variance_judged
	not price_variance_disproven
	not price_variance_moot
}

# Every call whose amount the registry measures against a record or an order. What is not known to
# be unmeasured is judged.
price_variance_judged if input.action.tool.measured == true

price_variance_judged if {
	input.action.tool.known == true
	not price_variance_measured_known
}

price_variance_measured_known if is_boolean(input.action.tool.measured)

price_variance_disproven if {
	limit := settings.effective.po_tolerance.ppm
	is_number(limit)
	measures := {"record", "order"} & object.keys(input.action.reference)
	count(measures) == input.action.reference.measures
	every name in measures {
		is_number(input.action.reference[name].excess_ppm)
		input.action.reference[name].excess_ppm <= limit
	}
}

# Blocked already, by the reason that explains it.
price_variance_moot if "session.unknown" in data.placet.rules.session.block

price_variance_moot if count(data.placet.rules.amount.block) > 0

# Whatever lacks both is blocked as an unknown record or order.
price_variance_moot if {
	is_object(input.action.reference)
	count({"record", "order"} & object.keys(input.action.reference)) == 0
}

findings contains {
	"code": "payment.price_variance",
	"of": name,
	"unit": reference.currency,
	"added": input.action.amount.minor,
	"limit": floor((reference.minor * (1000000 + tolerated)) / 1000000),
} if {
	"payment.price_variance" in escalate
	tolerated := settings.effective.po_tolerance.ppm
	is_number(tolerated)
	some name in {"record", "order"}
	reference := input.action.reference[name]
	is_number(reference.minor)
	reference.currency == input.action.amount.currency
	price_variance_limit_passed(reference, tolerated)
}

price_variance_limit_passed(reference, tolerated) if reference.excess_ppm > tolerated
