package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_amount_over_order_fires_above_the_limit if {
	every name in ["record", "order"] {
		"payment.amount_over_order" in payment.block with input as fixtures.replaced(sprintf("/action/reference/%s/excess_ppm", [name]), 1000001) with data.placet.defaults as fixtures.defaults
	}
}

test_amount_over_order_quiet_at_the_limit_and_below if {
	not "payment.amount_over_order" in payment.block with input as fixtures.document with data.placet.defaults as fixtures.defaults
	not "payment.amount_over_order" in payment.block with input as fixtures.replaced("/action/reference/order/excess_ppm", 1000000) with data.placet.defaults as fixtures.defaults
	unread := json.remove(fixtures.replaced("/action/reference/measures", 1), ["/action/reference/record"])
	not "payment.amount_over_order" in payment.block with input as unread with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_fires_for_an_excess_that_is_missing_or_odd if {
	"payment.amount_over_order" in payment.block with input as fixtures.removed("/action/reference/order/excess_ppm") with data.placet.defaults as fixtures.defaults
	every odd in [null, "0", false, {}] {
		"payment.amount_over_order" in payment.block with input as fixtures.replaced("/action/reference/order/excess_ppm", odd) with data.placet.defaults as fixtures.defaults
		"payment.amount_over_order" in payment.block with input as fixtures.replaced("/action/reference/record", odd) with data.placet.defaults as fixtures.defaults
	}
}

test_amount_over_order_fires_without_a_reference if {
	"payment.amount_over_order" in payment.block with input as fixtures.removed("/action/reference") with data.placet.defaults as fixtures.defaults
	"payment.amount_over_order" in payment.block with input as fixtures.replaced("/action/reference", null) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_leaves_what_cannot_be_measured_to_other_reasons if {
	not "payment.amount_over_order" in payment.block with input as fixtures.replaced("/action/reference", {"record_known": false, "order_named": false}) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_takes_the_tenants_own_limit if {
	"payment.amount_over_order" in payment.block with input as fixtures.replaced("/settings", {"variance_block_factor": {"ppm": -1000000}}) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_fires_for_a_setting_of_the_wrong_type if {
	every odd in [null, "50000", {"ppm": null}, {"ppm": "50000"}] {
		"payment.amount_over_order" in payment.block with input as fixtures.replaced("/settings/variance_block_factor", odd) with data.placet.defaults as fixtures.defaults
	}
}

test_amount_over_order_fires_without_settings_or_defaults if {
	"payment.amount_over_order" in payment.block with input as fixtures.removed("/settings") with data.placet.defaults as fixtures.defaults
	"payment.amount_over_order" in payment.block with input as fixtures.document with data.placet.defaults as null
}

test_amount_over_order_fires_when_it_is_not_known_whether_the_tool_is_measured if {
	every odd in [null, "true", 1] {
		"payment.amount_over_order" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", odd), ["/action/reference"]) with data.placet.defaults as fixtures.defaults
	}
	"payment.amount_over_order" in payment.block with input as json.remove(fixtures.document, ["/action/tool/measured", "/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_quiet_for_a_tool_that_is_not_measured if {
	not "payment.amount_over_order" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", false), ["/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_is_moot_when_another_reason_explains_it if {
	not "payment.amount_over_order" in payment.block with input as json.remove(fixtures.without_session, ["/action/reference"]) with data.placet.defaults as fixtures.defaults
	not "payment.amount_over_order" in payment.block with input as json.remove(fixtures.document, ["/action/amount", "/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_amount_over_order_fires_when_a_measure_was_lost if {
	every name in ["record", "order", "measures"] {
		document := fixtures.removed(sprintf("/action/reference/%s", [name]))
		"payment.amount_over_order" in payment.block with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_amount_over_order_says_what_it_was_measured_against if {
	document := fixtures.replaced("/action/reference/order/excess_ppm", 1000001)
	some finding in payment.findings with input as document with data.placet.defaults as fixtures.defaults
	finding == {
		"code": "payment.amount_over_order",
		"of": "order",
		"unit": "EUR",
		"added": 120000,
		"limit": 240000,
	}
}
