package placet.rules.review_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.review

test_prerequisite_consumed_fires_whether_it_is_required_or_not if {
	every required in [true, false] {
		"review.prerequisite_consumed" in review.block with input as fixtures.replaced(
			"/action/prerequisites",
			[{"tool": "invoices.approve", "required": required, "latest": "consumed"}],
		)
	}
}

test_prerequisite_consumed_quiet_otherwise if {
	every latest in ["allow", "block", "escalate", "absent"] {
		not "review.prerequisite_consumed" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", latest)
	}
}

test_prerequisite_consumed_fires_for_an_odd_answer if {
	every odd in [null, "", 1, {}] {
		"review.prerequisite_consumed" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", odd)
	}
}

test_prerequisite_consumed_fires_without_answers if {
	"review.prerequisite_consumed" in review.block with input as fixtures.removed("/action/prerequisites")
	"review.prerequisite_consumed" in review.block with input as fixtures.replaced("/action/prerequisites", [])
}

test_prerequisite_consumed_quiet_for_a_tool_without_any if {
	document := json.remove(fixtures.replaced("/action/tool/prerequisites", 0), ["/action/prerequisites"])
	not "review.prerequisite_consumed" in review.block with input as document
}

test_prerequisite_consumed_names_the_tool_that_comes_first if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/prerequisites/0/required", "value": true},
		{"op": "replace", "path": "/action/prerequisites/0/latest", "value": "consumed"},
	])
	finding := {"code": "review.prerequisite_consumed", "at": "invoices.approve"}
	finding in review.findings with input as document
}
