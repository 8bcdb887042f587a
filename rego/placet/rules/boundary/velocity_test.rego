package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_velocity_fires_above_the_limit if {
	"boundary.velocity" in boundary.block with input as fixtures.limited({"code": "boundary.velocity", "left": -1})
}

test_velocity_quiet_at_the_limit if {
	document := fixtures.limited({"code": "boundary.velocity", "left": 0})
	not "boundary.velocity" in boundary.block with input as document
	not "boundary.velocity" in boundary.escalate with input as document
}

test_velocity_quiet_without_such_a_limit if {
	not "boundary.velocity" in boundary.block with input as fixtures.replaced("/limits", [])
}

test_velocity_fires_for_odd_numbers if {
	every odd in [null, "1", -1, {}] {
		"boundary.velocity" in boundary.block with input as fixtures.limited({"code": "boundary.velocity", "left": odd})
	}
}

test_velocity_escalates_where_the_limit_says_so if {
	document := fixtures.limited({"code": "boundary.velocity", "left": -1, "on_exceed": "escalate"})
	"boundary.velocity" in boundary.escalate with input as document
	not "boundary.velocity" in boundary.block with input as document
}

test_velocity_says_when_to_come_back if {
	document := fixtures.limited({"code": "boundary.velocity", "left": -1, "retry_after_seconds": 7})
	{"code": "boundary.velocity", "seconds": 7} in boundary.retry_after_seconds with input as document
}

test_velocity_says_nothing_where_waiting_never_helps if {
	count(boundary.retry_after_seconds) == 0 with input as fixtures.limited({"code": "boundary.velocity", "left": -1})
}
