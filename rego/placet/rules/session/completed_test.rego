package placet.rules.session_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.session

test_completed_fires if {
	"session.completed" in session.block with input as fixtures.replaced("/session/state", "completed")
}

test_completed_quiet_for_an_open_session if {
	not "session.completed" in session.block with input as fixtures.document
}

test_completed_leaves_an_odd_state_to_unknown if {
	not "session.completed" in session.block with input as fixtures.replaced("/session/state", 1)
	"session.unknown" in session.block with input as fixtures.replaced("/session/state", 1)
}

test_completed_leaves_a_missing_session_to_unknown if {
	not "session.completed" in session.block with input as fixtures.removed("/session")
	"session.unknown" in session.block with input as fixtures.removed("/session")
}

completed_report := json.patch(fixtures.document, [
	{"op": "replace", "path": "/session/state", "value": "completed"},
	{"op": "replace", "path": "/action/tool/name", "value": "report.create"},
])

test_completed_quiet_for_what_may_still_be_done if {
	not "session.completed" in session.block with input as completed_report
}

test_completed_fires_unless_every_boundary_says_so if {
	template := {"op": "add", "path": "/boundaries/-", "value": {"of": "template", "after_completion": []}}
	"session.completed" in session.block with input as json.patch(completed_report, [template])
}

test_completed_fires_for_a_list_missing_or_of_the_wrong_type if {
	every odd in [null, "report.create", 1, true, []] {
		patch := {"op": "replace", "path": "/boundaries/0/after_completion", "value": odd}
		"session.completed" in session.block with input as json.patch(completed_report, [patch])
	}
	gone := {"op": "remove", "path": "/boundaries/0/after_completion"}
	"session.completed" in session.block with input as json.patch(completed_report, [gone])
}

test_completed_fires_without_the_sessions_own_boundary if {
	every odd in [[], null, {}] {
		patch := {"op": "replace", "path": "/boundaries", "value": odd}
		"session.completed" in session.block with input as json.patch(completed_report, [patch])
	}
}
