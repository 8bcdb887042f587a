package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_duplicate_fires_for_the_same_spelling if {
	every state in ["reserved", "committed"] {
		"payment.duplicate" in payment.block with input as fixtures.listed("/action/holds", [{"state": state, "spelling": "same"}])
	}
}

test_duplicate_quiet_without_a_hold if {
	not "payment.duplicate" in payment.block with input as fixtures.document
}

test_duplicate_quiet_for_what_escalates if {
	every hold in [{"state": "committed", "spelling": "other"}, {"state": "unresolved", "spelling": "same"}] {
		not "payment.duplicate" in payment.block with input as fixtures.listed("/action/holds", [hold])
	}
}

test_duplicate_fires_for_an_odd_hold if {
	every odd in [null, {}, {"state": "free", "spelling": "other"}, {"state": "committed"}, {"state": "reserved", "spelling": null}] {
		"payment.duplicate" in payment.block with input as fixtures.listed("/action/holds", [odd])
	}
}

test_duplicate_fires_without_holds if {
	"payment.duplicate" in payment.block with input as fixtures.removed("/action/holds")
	every odd in [null, {}, "", 0] {
		"payment.duplicate" in payment.block with input as fixtures.replaced("/action/holds", odd)
	}
}

test_duplicate_quiet_for_a_tool_without_a_key if {
	document := json.remove(fixtures.replaced("/action/tool/business_key", false), ["/action/holds"])
	not "payment.duplicate" in payment.block with input as document
}

test_duplicate_judges_what_is_not_known_to_have_no_key if {
	document := json.remove(fixtures.document, ["/action/holds", "/action/tool/business_key"])
	"payment.duplicate" in payment.block with input as document
}

test_duplicate_fires_when_a_hold_was_lost if {
	every holds in [[], [{"state": "committed", "spelling": "other"}]] {
		"payment.duplicate" in payment.block with input as fixtures.shortened("/action/holds", holds)
	}
	"payment.duplicate" in payment.block with input as fixtures.removed("/counts/holds")
}
