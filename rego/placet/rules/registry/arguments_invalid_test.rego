package placet.rules.registry_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.registry

test_arguments_invalid_fires_for_the_problem if {
	"registry.arguments_invalid" in registry.block with input as fixtures.replaced("/action/problems", ["registry.arguments_invalid"])
}

test_arguments_invalid_fires_among_other_problems if {
	"registry.arguments_invalid" in registry.block with input as fixtures.replaced("/action/problems", ["x.y", "registry.arguments_invalid"])
}

test_arguments_invalid_quiet_without_problems if {
	not "registry.arguments_invalid" in registry.block with input as fixtures.document
}

test_arguments_invalid_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "registry.arguments_invalid", {"registry.arguments_invalid": true}] {
		not "registry.arguments_invalid" in registry.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_arguments_invalid_leaves_missing_problems_to_unknown_problem if {
	not "registry.arguments_invalid" in registry.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in registry.block with input as fixtures.removed("/action/problems")
}
