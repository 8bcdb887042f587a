package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_large_fires_above_the_threshold if {
	"payment.large" in payment.escalate with input as fixtures.replaced("/action/amount/minor", 200001) with data.placet.defaults as fixtures.defaults
}

test_large_quiet_at_the_threshold if {
	not "payment.large" in payment.escalate with input as fixtures.replaced("/action/amount/minor", 200000) with data.placet.defaults as fixtures.defaults
}

test_large_fires_for_an_amount_of_any_effect if {
	"payment.large" in payment.escalate with input as object.union(fixtures.replaced("/action/tool/effect", "write"), {"action": {"amount": {"minor": 200001}}}) with data.placet.defaults as fixtures.defaults
}

test_large_quiet_without_an_amount if {
	not "payment.large" in payment.escalate with input as json.remove(fixtures.replaced("/action/tool/effect", "write"), ["/action/amount"]) with data.placet.defaults as fixtures.defaults
}

test_large_fires_for_a_currency_without_a_threshold if {
	"payment.large" in payment.escalate with input as fixtures.replaced("/action/amount/currency", "CHF") with data.placet.defaults as fixtures.defaults
}

test_large_takes_the_tenants_own_threshold if {
	"payment.large" in payment.escalate with input as fixtures.replaced("/settings", {"large_amount": {"EUR": {"minor": 100}}}) with data.placet.defaults as fixtures.defaults
	not "payment.large" in payment.escalate with input as fixtures.replaced("/settings", {"large_amount": {"EUR": {"minor": 900000}}}) with data.placet.defaults as fixtures.defaults
}

test_large_fires_for_a_currency_that_only_the_bundle_has_a_threshold_for if {
	"payment.large" in payment.escalate with input as fixtures.replaced("/settings", {"large_amount": {"CHF": {"minor": 100}}}) with data.placet.defaults as fixtures.defaults
}

test_large_fires_for_a_threshold_of_the_wrong_type if {
	every odd in [null, "200000", {"EUR": null}, {"EUR": {"minor": "200000"}}] {
		"payment.large" in payment.escalate with input as fixtures.replaced("/settings/large_amount", odd)
			with data.placet.defaults as fixtures.defaults
	}
}

test_large_fires_without_settings if {
	"payment.large" in payment.escalate with input as fixtures.removed("/settings") with data.placet.defaults as fixtures.defaults
}

test_large_fires_without_defaults if {
	"payment.large" in payment.escalate with input as fixtures.document with data.placet.defaults as null
}

test_large_is_moot_when_the_amount_blocks if {
	not "payment.large" in payment.escalate with input as fixtures.removed("/action/amount") with data.placet.defaults as fixtures.defaults
}

test_large_leaves_an_amount_of_the_wrong_type_to_invalid if {
	every odd in [null, "1", {}, {"minor": "1", "currency": "EUR"}] {
		not "payment.large" in payment.escalate with input as fixtures.replaced("/action/amount", odd)
			with data.placet.defaults as fixtures.defaults
		"amount.invalid" in data.placet.rules.amount.block with input as fixtures.replaced("/action/amount", odd)
	}
}

test_large_says_what_it_was_measured_against if {
	document := fixtures.replaced("/action/amount/minor", 200001)
	some finding in payment.findings with input as document with data.placet.defaults as fixtures.defaults
	finding == {
		"code": "payment.large",
		"of": "settings",
		"unit": "EUR",
		"added": 200001,
		"limit": 200000,
	}
}

test_large_says_so_where_there_is_no_threshold if {
	document := fixtures.replaced("/action/amount/currency", "USD")
	some finding in payment.findings with input as document with data.placet.defaults as fixtures.defaults
	finding == {"code": "payment.large", "of": "settings", "unit": "USD", "added": 120000}
}
