package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_max_actions_fires_above_the_limit if {
	"boundary.max_actions" in boundary.block with input as fixtures.limited({"code": "boundary.max_actions", "left": -1})
}

test_max_actions_quiet_at_the_limit if {
	document := fixtures.limited({"code": "boundary.max_actions", "left": 0})
	not "boundary.max_actions" in boundary.block with input as document
}

test_max_actions_quiet_without_such_a_limit if {
	not "boundary.max_actions" in boundary.block with input as fixtures.replaced("/limits", [])
}

test_max_actions_fires_for_odd_numbers if {
	every odd in [null, "1", -1, {}] {
		"boundary.max_actions" in boundary.block with input as fixtures.limited({"code": "boundary.max_actions", "left": odd})
	}
}
