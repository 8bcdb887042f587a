package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_total_fires_above_the_limit if {
	"boundary.total" in boundary.block with input as fixtures.limited({"code": "boundary.total", "left": -1})
}

test_total_quiet_at_the_limit if {
	document := fixtures.limited({"code": "boundary.total", "left": 0})
	not "boundary.total" in boundary.block with input as document
	not "boundary.total" in boundary.escalate with input as document
}

test_total_quiet_without_such_a_limit if {
	not "boundary.total" in boundary.block with input as fixtures.replaced("/limits", [])
}

test_total_fires_for_odd_numbers if {
	every odd in [null, "1", -1, {}] {
		"boundary.total" in boundary.block with input as fixtures.limited({"code": "boundary.total", "left": odd})
	}
}

test_total_escalates_where_the_limit_says_so if {
	document := fixtures.limited({"code": "boundary.total", "left": -1, "on_exceed": "escalate"})
	"boundary.total" in boundary.escalate with input as document
	not "boundary.total" in boundary.block with input as document
}
