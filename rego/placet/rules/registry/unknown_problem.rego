package placet.rules.registry

# METADATA
# scope: rule
# title: Unreadable action
# description: The action could not be read in full.
# custom:
#   remedy: ask
#   remediation: Update the policy bundle, so that it knows every problem that the server reports.
block contains "registry.unknown_problem" if not unknown_problem_disproven

unknown_problem_disproven if {
	input.action.problems == []
	input.counts.problems == 0
}

# Every problem has a rule that blocks; what has none is caught here, and so is one that was lost.
unknown_problem_disproven if {
	is_array(input.action.problems)
	count(input.action.problems) == input.counts.problems
	every problem in input.action.problems {
		problem in {
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
		}
	}
}
