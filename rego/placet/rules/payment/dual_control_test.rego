package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_dual_control_fires_from_the_threshold if {
	"payment.dual_control" in payment.escalate with input as fixtures.replaced("/action/amount/minor", 1000000) with data.placet.defaults as fixtures.defaults
}

test_dual_control_quiet_below_the_threshold if {
	not "payment.dual_control" in payment.escalate with input as fixtures.replaced("/action/amount/minor", 999999) with data.placet.defaults as fixtures.defaults
}

test_dual_control_fires_for_an_amount_of_any_effect if {
	"payment.dual_control" in payment.escalate with input as object.union(fixtures.replaced("/action/tool/effect", "write"), {"action": {"amount": {"minor": 1000000}}}) with data.placet.defaults as fixtures.defaults
}

test_dual_control_quiet_without_an_amount if {
	not "payment.dual_control" in payment.escalate with input as json.remove(fixtures.replaced("/action/tool/effect", "write"), ["/action/amount"]) with data.placet.defaults as fixtures.defaults
}

test_dual_control_fires_for_a_currency_without_a_threshold if {
	"payment.dual_control" in payment.escalate with input as fixtures.replaced("/action/amount/currency", "CHF") with data.placet.defaults as fixtures.defaults
}

test_dual_control_takes_the_tenants_own_threshold if {
	"payment.dual_control" in payment.escalate with input as fixtures.replaced("/settings", {"dual_control_amount": {"EUR": {"minor": 100}}}) with data.placet.defaults as fixtures.defaults
}

test_dual_control_fires_for_a_threshold_of_the_wrong_type if {
	every odd in [null, "1000000", {"EUR": null}, {"EUR": {"minor": "1000000"}}] {
		"payment.dual_control" in payment.escalate with input as fixtures.replaced("/settings/dual_control_amount", odd)
			with data.placet.defaults as fixtures.defaults
	}
}

test_dual_control_fires_without_settings_or_defaults if {
	"payment.dual_control" in payment.escalate with input as fixtures.removed("/settings") with data.placet.defaults as fixtures.defaults
	"payment.dual_control" in payment.escalate with input as fixtures.document with data.placet.defaults as null
}

test_dual_control_is_moot_when_the_amount_blocks if {
	not "payment.dual_control" in payment.escalate with input as fixtures.removed("/action/amount") with data.placet.defaults as fixtures.defaults
}

test_dual_control_says_what_it_was_measured_against if {
	document := fixtures.replaced("/action/amount/minor", 1000000)
	some finding in payment.findings with input as document with data.placet.defaults as fixtures.defaults
	finding == {
		"code": "payment.dual_control",
		"of": "settings",
		"unit": "EUR",
		"added": 1000000,
		"limit": 1000000,
	}
}

test_dual_control_says_so_where_there_is_no_threshold if {
	document := fixtures.replaced("/action/amount/currency", "USD")
	some finding in payment.findings with input as document with data.placet.defaults as fixtures.defaults
	finding == {"code": "payment.dual_control", "of": "settings", "unit": "USD", "added": 120000}
}
