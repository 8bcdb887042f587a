package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_record_unknown_fires_for_a_record_that_does_not_exist if {
	"payment.record_unknown" in payment.block with input as fixtures.replaced("/action/reference/record_known", false)
}

test_record_unknown_quiet_for_a_known_record if {
	not "payment.record_unknown" in payment.block with input as fixtures.document
}

test_record_unknown_quiet_for_a_record_without_an_amount_that_names_its_order if {
	not "payment.record_unknown" in payment.block with input as fixtures.removed("/action/reference/record")
}

test_record_unknown_fires_for_a_record_with_neither_amount_nor_order if {
	unordered := fixtures.replaced("/action/reference/order_named", false)
	"payment.record_unknown" in payment.block with input as json.remove(unordered, ["/action/reference/record"])
	every odd in [null, "120000", {}] {
		"payment.record_unknown" in payment.block with input as json.patch(unordered, [{"op": "add", "path": "/action/reference/record/minor", "value": odd}])
	}
}

test_record_unknown_fires_for_an_amount_that_cannot_be_read_also_beside_an_order if {
	without := fixtures.removed("/action/reference/record")
	every odd in [false, null, "true", 1] {
		"payment.record_unknown" in payment.block with input as json.patch(without, [{"op": "replace", "path": "/action/reference/record_readable", "value": odd}])
	}
	"payment.record_unknown" in payment.block with input as json.remove(without, ["/action/reference/record_readable"])
}

# What its payments fixed does not say what it comes to.
test_record_unknown_fires_for_a_record_without_an_amount_and_an_order_that_was_paid if {
	"payment.record_unknown" in payment.block with input as json.patch(fixtures.document, [
		{"op": "remove", "path": "/action/reference/record/minor"},
		{"op": "replace", "path": "/action/reference/order_named", "value": false},
	])
}

test_record_unknown_fires_when_it_is_missing_or_odd_whether_the_record_is_known if {
	"payment.record_unknown" in payment.block with input as fixtures.removed("/action/reference/record_known")
	every odd in [null, "true", 1] {
		"payment.record_unknown" in payment.block with input as fixtures.replaced("/action/reference/record_known", odd)
	}
}

test_record_unknown_fires_without_a_reference if {
	"payment.record_unknown" in payment.block with input as fixtures.removed("/action/reference")
	"payment.record_unknown" in payment.block with input as fixtures.replaced("/action/reference", null)
}

test_record_unknown_quiet_for_a_tool_that_names_no_record if {
	not "payment.record_unknown" in payment.block with input as json.remove(fixtures.replaced("/action/tool/roles/record", false), ["/action/reference"])
}

test_record_unknown_fires_when_it_is_not_known_whether_the_tool_is_measured if {
	every odd in [null, "true", 1] {
		"payment.record_unknown" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", odd), ["/action/reference"])
	}
	"payment.record_unknown" in payment.block with input as json.remove(fixtures.document, ["/action/tool/measured", "/action/reference"])
}

test_record_unknown_quiet_for_a_tool_that_is_not_measured if {
	not "payment.record_unknown" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", false), ["/action/reference"])
}

test_record_unknown_is_moot_when_another_reason_explains_it if {
	not "payment.record_unknown" in payment.block with input as json.remove(fixtures.without_session, ["/action/reference"])
	not "payment.record_unknown" in payment.block with input as json.remove(fixtures.document, ["/action/amount", "/action/reference"])
}
