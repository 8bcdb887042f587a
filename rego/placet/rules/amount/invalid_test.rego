package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_invalid_fires_for_the_problem if {
	"amount.invalid" in amount.block with input as fixtures.replaced("/action/problems", ["amount.invalid"])
}

test_invalid_fires_among_other_problems if {
	"amount.invalid" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.invalid"])
}

test_invalid_quiet_without_problems if {
	not "amount.invalid" in amount.block with input as fixtures.document
}

test_invalid_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.invalid", {"amount.invalid": true}] {
		not "amount.invalid" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_invalid_leaves_missing_problems_to_unknown_problem if {
	not "amount.invalid" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}

test_invalid_fires_for_an_amount_of_the_wrong_type if {
	every odd in [
		null,
		false,
		1200,
		"1200 EUR",
		{},
		{"minor": "1", "currency": "EUR"},
		{"minor": 1.5, "currency": "EUR"},
		{"minor": -1, "currency": "EUR"},
		{"minor": 1, "currency": ""},
		{"minor": 1, "currency": null},
		{"minor": 1},
	] {
		"amount.invalid" in amount.block with input as fixtures.replaced("/action/amount", odd)
	}
}

test_invalid_quiet_without_an_amount if {
	not "amount.invalid" in amount.block with input as fixtures.removed("/action/amount")
}
