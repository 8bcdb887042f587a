package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_currency_mismatch_fires_for_another_currency if {
	every name in ["record", "order"] {
		"payment.currency_mismatch" in payment.block with input as fixtures.replaced(sprintf("/action/reference/%s/currency", [name]), "USD")
	}
}

test_currency_mismatch_quiet_for_the_same_currency if {
	not "payment.currency_mismatch" in payment.block with input as fixtures.document
}

test_currency_mismatch_fires_for_a_currency_that_is_missing_or_odd if {
	"payment.currency_mismatch" in payment.block with input as fixtures.removed("/action/reference/order/currency")
	every odd in [null, 978, ["EUR"]] {
		"payment.currency_mismatch" in payment.block with input as fixtures.replaced("/action/reference/record/currency", odd)
	}
}

test_currency_mismatch_fires_without_a_reference if {
	"payment.currency_mismatch" in payment.block with input as fixtures.removed("/action/reference")
	"payment.currency_mismatch" in payment.block with input as fixtures.replaced("/action/reference", null)
}

test_currency_mismatch_quiet_where_nothing_is_measured_which_others_block if {
	not "payment.currency_mismatch" in payment.block with input as fixtures.replaced("/action/reference", {})
}

test_currency_mismatch_fires_when_it_is_not_known_whether_the_tool_is_measured if {
	every odd in [null, "true", 1] {
		"payment.currency_mismatch" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", odd), ["/action/reference"])
	}
	"payment.currency_mismatch" in payment.block with input as json.remove(fixtures.document, ["/action/tool/measured", "/action/reference"])
}

test_currency_mismatch_quiet_for_a_tool_that_is_not_measured if {
	not "payment.currency_mismatch" in payment.block with input as json.remove(fixtures.replaced("/action/tool/measured", false), ["/action/reference"])
}

test_currency_mismatch_is_moot_when_another_reason_explains_it if {
	not "payment.currency_mismatch" in payment.block with input as json.remove(fixtures.without_session, ["/action/reference"])
	not "payment.currency_mismatch" in payment.block with input as json.remove(fixtures.document, ["/action/amount", "/action/reference"])
}

test_currency_mismatch_fires_for_another_currency_than_was_paid_in_before if {
	every name in ["record", "order"] {
		path := sprintf("/action/reference/%s/paid", [name])
		every odd in ["USD", null, 978, ["EUR"]] {
			"payment.currency_mismatch" in payment.block with input as fixtures.replaced(sprintf("%s/currency", [path]), odd)
		}
		"payment.currency_mismatch" in payment.block with input as fixtures.removed(path)
	}
}

test_currency_mismatch_of_what_was_paid_is_for_payments_alone if {
	approved := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/tool/effect", "value": "write"},
		{"op": "remove", "path": "/action/reference/record/paid"},
		{"op": "remove", "path": "/action/reference/order/paid"},
	])
	not "payment.currency_mismatch" in payment.block with input as approved
	every odd in [null, "refund", ["write"]] {
		"payment.currency_mismatch" in payment.block with input as json.patch(approved, [{"op": "replace", "path": "/action/tool/effect", "value": odd}])
	}
}
