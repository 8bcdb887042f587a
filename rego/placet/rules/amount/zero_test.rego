package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_zero_fires_for_the_problem if {
	"amount.zero" in amount.block with input as fixtures.replaced("/action/problems", ["amount.zero"])
}

test_zero_fires_among_other_problems if {
	"amount.zero" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.zero"])
}

test_zero_quiet_without_problems if {
	not "amount.zero" in amount.block with input as fixtures.document
}

test_zero_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.zero", {"amount.zero": true}] {
		not "amount.zero" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_zero_leaves_missing_problems_to_unknown_problem if {
	not "amount.zero" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
