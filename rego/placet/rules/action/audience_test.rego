package placet.rules.action_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.action

test_audience_fires_for_the_problem if {
	"action.audience" in action.block with input as fixtures.replaced("/action/problems", ["action.audience"])
}

test_audience_fires_among_other_problems if {
	"action.audience" in action.block with input as fixtures.replaced("/action/problems", ["x.y", "action.audience"])
}

test_audience_quiet_without_problems if {
	not "action.audience" in action.block with input as fixtures.document
}

test_audience_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "action.audience", {"action.audience": true}] {
		not "action.audience" in action.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_audience_leaves_missing_problems_to_unknown_problem if {
	not "action.audience" in action.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
