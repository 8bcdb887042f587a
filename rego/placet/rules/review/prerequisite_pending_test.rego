package placet.rules.review_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.review

test_prerequisite_pending_fires_while_it_waits if {
	"review.prerequisite_pending" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", "escalate")
}

test_prerequisite_pending_quiet_otherwise if {
	every latest in ["allow", "block", "absent", "consumed"] {
		not "review.prerequisite_pending" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", latest)
	}
}

test_prerequisite_pending_fires_for_an_odd_answer if {
	every odd in [null, "", 1, {}] {
		"review.prerequisite_pending" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", odd)
	}
}

test_prerequisite_pending_fires_without_answers if {
	"review.prerequisite_pending" in review.block with input as fixtures.removed("/action/prerequisites")
	"review.prerequisite_pending" in review.block with input as fixtures.replaced("/action/prerequisites", [])
}

test_prerequisite_pending_quiet_for_a_tool_without_any if {
	document := json.remove(fixtures.replaced("/action/tool/prerequisites", 0), ["/action/prerequisites"])
	not "review.prerequisite_pending" in review.block with input as document
}

test_prerequisite_pending_names_the_tool_that_comes_first if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/prerequisites/0/required", "value": true},
		{"op": "replace", "path": "/action/prerequisites/0/latest", "value": "escalate"},
	])
	finding := {"code": "review.prerequisite_pending", "at": "invoices.approve"}
	finding in review.findings with input as document
}
