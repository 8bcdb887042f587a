package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_out_of_range_fires_for_the_problem if {
	"amount.out_of_range" in amount.block with input as fixtures.replaced("/action/problems", ["amount.out_of_range"])
}

test_out_of_range_fires_among_other_problems if {
	"amount.out_of_range" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.out_of_range"])
}

test_out_of_range_quiet_without_problems if {
	not "amount.out_of_range" in amount.block with input as fixtures.document
}

test_out_of_range_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.out_of_range", {"amount.out_of_range": true}] {
		not "amount.out_of_range" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_out_of_range_leaves_missing_problems_to_unknown_problem if {
	not "amount.out_of_range" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
