package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_unit_missing_fires_for_the_problem if {
	"amount.unit_missing" in amount.block with input as fixtures.replaced("/action/problems", ["amount.unit_missing"])
}

test_unit_missing_fires_among_other_problems if {
	"amount.unit_missing" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.unit_missing"])
}

test_unit_missing_quiet_without_problems if {
	not "amount.unit_missing" in amount.block with input as fixtures.document
}

test_unit_missing_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.unit_missing", {"amount.unit_missing": true}] {
		not "amount.unit_missing" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_unit_missing_leaves_missing_problems_to_unknown_problem if {
	not "amount.unit_missing" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}
