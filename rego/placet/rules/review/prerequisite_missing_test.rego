package placet.rules.review_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.review

required(latest) := fixtures.replaced("/action/prerequisites", [{"tool": "invoices.approve", "required": true, "latest": latest}])

test_prerequisite_missing_fires_where_it_is_required if {
	every latest in ["absent", "block"] {
		"review.prerequisite_missing" in review.block with input as required(latest)
	}
}

test_prerequisite_missing_quiet_when_it_was_allowed if {
	not "review.prerequisite_missing" in review.block with input as required("allow")
}

test_prerequisite_missing_quiet_where_another_reason_explains_it if {
	every latest in ["escalate", "consumed"] {
		not "review.prerequisite_missing" in review.block with input as required(latest)
	}
}

test_prerequisite_missing_quiet_where_it_is_not_required if {
	not "review.prerequisite_missing" in review.block with input as fixtures.replaced("/action/prerequisites/0/latest", "absent")
}

test_prerequisite_missing_fires_for_odd_answers if {
	every odd in [null, "", 1, {}] {
		"review.prerequisite_missing" in review.block with input as required(odd)
		"review.prerequisite_missing" in review.block with input as json.patch(required("absent"), [{"op": "replace", "path": "/action/prerequisites/0/required", "value": odd}])
	}
}

test_prerequisite_missing_fires_without_answers if {
	"review.prerequisite_missing" in review.block with input as fixtures.removed("/action/prerequisites")
}

test_prerequisite_missing_quiet_for_a_tool_without_any if {
	document := json.remove(fixtures.replaced("/action/tool/prerequisites", 0), ["/action/prerequisites"])
	not "review.prerequisite_missing" in review.block with input as document
}

test_prerequisite_missing_names_the_tool_that_comes_first if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/prerequisites/0/required", "value": true},
		{"op": "replace", "path": "/action/prerequisites/0/latest", "value": "absent"},
	])
	finding := {"code": "review.prerequisite_missing", "at": "invoices.approve"}
	finding in review.findings with input as document
}
