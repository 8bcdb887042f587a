package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_probable_duplicate_fires_for_another_spelling if {
	every state in ["reserved", "committed"] {
		"payment.probable_duplicate" in payment.escalate with input as fixtures.listed("/action/holds", [{"state": state, "spelling": "other"}])
	}
}

test_probable_duplicate_quiet_without_a_hold if {
	not "payment.probable_duplicate" in payment.escalate with input as fixtures.document
}

test_probable_duplicate_quiet_for_what_other_rules_judge if {
	every hold in [{"state": "committed", "spelling": "same"}, {"state": "unresolved", "spelling": "other"}] {
		not "payment.probable_duplicate" in payment.escalate with input as fixtures.listed("/action/holds", [hold])
	}
}

test_probable_duplicate_fires_for_an_odd_hold if {
	every odd in [null, {}, {"state": "committed", "spelling": null}] {
		"payment.probable_duplicate" in payment.escalate with input as fixtures.listed("/action/holds", [odd])
	}
}

test_probable_duplicate_fires_without_holds if {
	"payment.probable_duplicate" in payment.escalate with input as fixtures.removed("/action/holds")
}

test_probable_duplicate_quiet_for_a_tool_without_a_key if {
	document := json.remove(fixtures.replaced("/action/tool/business_key", false), ["/action/holds"])
	not "payment.probable_duplicate" in payment.escalate with input as document
}

test_probable_duplicate_fires_when_a_hold_was_lost if {
	every holds in [[], [{"state": "committed", "spelling": "same"}]] {
		"payment.probable_duplicate" in payment.escalate with input as fixtures.shortened("/action/holds", holds)
	}
	"payment.probable_duplicate" in payment.escalate with input as fixtures.removed("/counts/holds")
}
