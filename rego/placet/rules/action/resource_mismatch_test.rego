package placet.rules.action_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.action

test_resource_mismatch_fires_for_the_problem if {
	"action.resource_mismatch" in action.block with input as fixtures.replaced("/action/problems", ["action.resource_mismatch"])
}

test_resource_mismatch_fires_among_other_problems if {
	"action.resource_mismatch" in action.block with input as fixtures.replaced("/action/problems", ["x.y", "action.resource_mismatch"])
}

test_resource_mismatch_quiet_without_problems if {
	not "action.resource_mismatch" in action.block with input as fixtures.document
}

test_resource_mismatch_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "action.resource_mismatch", {"action.resource_mismatch": true}] {
		not "action.resource_mismatch" in action.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_resource_mismatch_leaves_missing_problems_to_unknown_problem if {
	not "action.resource_mismatch" in action.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
