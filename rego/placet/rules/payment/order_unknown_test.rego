package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_order_unknown_fires_for_an_order_that_is_named_and_not_known if {
	"payment.order_unknown" in payment.block with input as fixtures.removed("/action/reference/order")
}

test_order_unknown_quiet_for_a_known_order if {
	not "payment.order_unknown" in payment.block with input as fixtures.document
}

test_order_unknown_quiet_for_a_record_that_names_no_order if {
	unordered := fixtures.replaced("/action/reference/order_named", false)
	not "payment.order_unknown" in payment.block with input as json.remove(unordered, ["/action/reference/order"])
}

test_order_unknown_fires_for_a_tool_without_a_record_whose_call_names_no_order if {
	unordered := fixtures.replaced("/action/reference/order_named", false)
	"payment.order_unknown" in payment.block with input as json.patch(unordered, [
		{"op": "remove", "path": "/action/reference/order"},
		{"op": "replace", "path": "/action/tool/roles/record", "value": false},
	])
}

test_order_unknown_fires_for_an_order_or_its_naming_that_is_missing_or_odd if {
	without := fixtures.removed("/action/reference/order")
	"payment.order_unknown" in payment.block with input as json.remove(without, ["/action/reference/order_named"])
	every odd in [null, "false", 0] {
		"payment.order_unknown" in payment.block with input as json.patch(without, [{"op": "add", "path": "/action/reference/order_named", "value": odd}])
		"payment.order_unknown" in payment.block with input as fixtures.replaced("/action/reference/order", {"minor": odd == 0})
	}
}

test_order_unknown_fires_without_a_reference if {
	"payment.order_unknown" in payment.block with input as fixtures.removed("/action/reference")
	"payment.order_unknown" in payment.block with input as fixtures.replaced("/action/reference", null)
}

# On this the rules on amounts rely: what cannot be measured is blocked by one of the two.
test_order_unknown_or_record_unknown_fires_whenever_nothing_can_be_measured if {
	every roles in [{"record": true}, {"record": false}, {"record": null}, {}, null] {
		every named in [true, false, null] {
			every known in [true, false, null] {
				some code in ["payment.order_unknown", "payment.record_unknown"]
				code in payment.block with input as json.patch(fixtures.document, [
					{"op": "replace", "path": "/action/tool/roles", "value": roles},
					{"op": "replace", "path": "/action/reference", "value": {"order_named": named, "record_known": known}},
				])
			}
		}
	}
}

test_order_unknown_fires_when_it_is_not_known_whether_the_tool_is_measured if {
	every odd in [null, "true", 1] {
		"payment.order_unknown" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", odd), ["/action/reference"])
	}
	"payment.order_unknown" in payment.block with input as json.remove(fixtures.document, ["/action/tool/measured", "/action/reference"])
}

test_order_unknown_quiet_for_a_tool_that_is_not_measured if {
	not "payment.order_unknown" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", false), ["/action/reference"])
}

test_order_unknown_is_moot_when_another_reason_explains_it if {
	not "payment.order_unknown" in payment.block with input as json.remove(fixtures.without_session, ["/action/reference"])
	not "payment.order_unknown" in payment.block with input as json.remove(fixtures.document, ["/action/amount", "/action/reference"])
}
