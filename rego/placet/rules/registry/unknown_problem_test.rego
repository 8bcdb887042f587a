package placet.rules.registry_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.registry

test_unknown_problem_fires if {
	"registry.unknown_problem" in registry.block with input as fixtures.listed("/action/problems", ["amount.missing", "amount.from_next_year"])
}

test_unknown_problem_quiet_without_problems if {
	not "registry.unknown_problem" in registry.block with input as fixtures.document
}

test_unknown_problem_quiet_for_problems_with_a_rule if {
	not "registry.unknown_problem" in registry.block with input as fixtures.listed("/action/problems", ["amount.missing"])
}

test_unknown_problem_every_known_problem_blocks_by_a_rule_of_its_own if {
	every problem in [
		"registry.unknown_tool",
		"registry.arguments_invalid",
		"registry.resource_underivable",
		"action.resource_mismatch",
		"action.audience",
		"amount.unit_missing",
		"amount.missing",
		"amount.invalid",
		"amount.currency_invalid",
		"amount.precision",
		"amount.zero",
		"amount.out_of_range",
	] {
		document := fixtures.listed("/action/problems", [problem])
		problem in data.placet.decision.blocks with input as document
	}
}

test_unknown_problem_fires_for_problems_of_the_wrong_type if {
	every odd in [null, "", "amount.missing", {}, {"a": "amount.missing"}, [1], [null], 0, false] {
		"registry.unknown_problem" in registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_unknown_problem_fires_without_problems_said if {
	"registry.unknown_problem" in registry.block with input as fixtures.removed("/action/problems")
}

test_unknown_problem_fires_without_a_document if {
	"registry.unknown_problem" in registry.block with input as {}
}

test_unknown_problem_fires_when_a_problem_was_lost if {
	every problems in [[], ["amount.missing"]] {
		"registry.unknown_problem" in registry.block with input as fixtures.shortened("/action/problems", problems)
	}
	"registry.unknown_problem" in registry.block with input as fixtures.removed("/counts/problems")
}
