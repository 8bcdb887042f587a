package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_precision_fires_for_the_problem if {
	"amount.precision" in amount.block with input as fixtures.replaced("/action/problems", ["amount.precision"])
}

test_precision_fires_among_other_problems if {
	"amount.precision" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.precision"])
}

test_precision_quiet_without_problems if {
	not "amount.precision" in amount.block with input as fixtures.document
}

test_precision_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.precision", {"amount.precision": true}] {
		not "amount.precision" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_precision_leaves_missing_problems_to_unknown_problem if {
	not "amount.precision" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
