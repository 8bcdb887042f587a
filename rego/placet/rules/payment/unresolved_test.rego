package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

test_unresolved_fires_for_an_unresolved_hold if {
	every spelling in ["same", "other"] {
		"payment.unresolved" in payment.escalate with input as fixtures.listed("/action/holds", [{"state": "unresolved", "spelling": spelling}])
	}
}

test_unresolved_quiet_without_a_hold if {
	not "payment.unresolved" in payment.escalate with input as fixtures.document
}

test_unresolved_quiet_for_what_other_rules_judge if {
	every state in ["reserved", "committed"] {
		not "payment.unresolved" in payment.escalate with input as fixtures.listed("/action/holds", [{"state": state, "spelling": "same"}])
	}
}

test_unresolved_fires_for_an_odd_hold if {
	every odd in [null, {}, {"state": "free"}] {
		"payment.unresolved" in payment.escalate with input as fixtures.listed("/action/holds", [odd])
	}
}

test_unresolved_fires_without_holds if {
	"payment.unresolved" in payment.escalate with input as fixtures.removed("/action/holds")
}

test_unresolved_quiet_for_a_tool_without_a_key if {
	document := json.remove(fixtures.replaced("/action/tool/business_key", false), ["/action/holds"])
	not "payment.unresolved" in payment.escalate with input as document
}

test_unresolved_fires_when_a_hold_was_lost if {
	every holds in [[], [{"state": "committed", "spelling": "same"}]] {
		"payment.unresolved" in payment.escalate with input as fixtures.shortened("/action/holds", holds)
	}
	"payment.unresolved" in payment.escalate with input as fixtures.removed("/counts/holds")
}
