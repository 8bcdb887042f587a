package placet.rules.review_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.review

test_prerequisite_rejected_fires_after_a_block_whether_it_is_required_or_not if {
	every required in [true, false] {
		"review.prerequisite_rejected" in review.block with input as fixtures.replaced(
			"/action/prerequisites",
			[{"tool": "invoices.approve", "required": required, "latest": "block"}],
		)
	}
}

test_prerequisite_rejected_fires_for_any_of_several if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/tool/prerequisites", "value": 2},
		{
			"op": "add", "path": "/action/prerequisites/1",
			"value": {"tool": "orders.check", "required": false, "latest": "block"},
		},
	])
	"review.prerequisite_rejected" in review.block with input as document
}

test_prerequisite_rejected_quiet_otherwise if {
	every latest in ["allow", "escalate", "absent", "consumed"] {
		not "review.prerequisite_rejected" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", latest)
	}
}

test_prerequisite_rejected_fires_for_an_odd_answer if {
	every odd in [null, "", 1, {}] {
		"review.prerequisite_rejected" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", odd)
	}
}

test_prerequisite_rejected_fires_without_answers if {
	"review.prerequisite_rejected" in review.block with input as fixtures.removed("/action/prerequisites")
	"review.prerequisite_rejected" in review.block with input as fixtures.replaced("/action/prerequisites", [])
}

test_prerequisite_rejected_quiet_for_a_tool_without_any if {
	document := json.remove(fixtures.replaced("/action/tool/prerequisites", 0), ["/action/prerequisites"])
	not "review.prerequisite_rejected" in review.block with input as document
}

test_prerequisite_rejected_names_the_tool_that_comes_first if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/prerequisites/0/required", "value": true},
		{"op": "replace", "path": "/action/prerequisites/0/latest", "value": "block"},
	])
	finding := {"code": "review.prerequisite_rejected", "at": "invoices.approve"}
	finding in review.findings with input as document
}
