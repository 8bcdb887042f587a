package placet.rules.amount_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.amount

test_missing_fires_for_the_problem if {
	"amount.missing" in amount.block with input as fixtures.replaced("/action/problems", ["amount.missing"])
}

test_missing_fires_among_other_problems if {
	"amount.missing" in amount.block with input as fixtures.replaced("/action/problems", ["x.y", "amount.missing"])
}

test_missing_quiet_without_problems if {
	not "amount.missing" in amount.block with input as fixtures.document
}

test_missing_leaves_problems_of_the_wrong_type_to_unknown_problem if {
	every odd in [null, 1, "amount.missing", {"amount.missing": true}] {
		not "amount.missing" in amount.block with input as fixtures.replaced("/action/problems", odd)
		"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.replaced("/action/problems", odd)
	}
}

test_missing_leaves_missing_problems_to_unknown_problem if {
	not "amount.missing" in amount.block with input as fixtures.removed("/action/problems")
	"registry.unknown_problem" in data.placet.rules.registry.block with input as fixtures.removed("/action/problems")
}

test_missing_fires_for_a_payment_without_an_amount if {
	"amount.missing" in amount.block with input as fixtures.removed("/action/amount")
	without := json.remove(fixtures.replaced("/action/tool/amount", false), ["/action/amount"])
	"amount.missing" in amount.block with input as without
}

reading := json.remove(fixtures.replaced("/action/tool/effect", "read"), ["/action/amount"])

test_missing_quiet_for_another_effect_whose_tool_has_no_amount if {
	not "amount.missing" in amount.block with input as json.patch(reading, [{"op": "replace", "path": "/action/tool/amount", "value": false}])
}

test_missing_fires_for_another_effect_whose_tool_has_an_amount if {
	"amount.missing" in amount.block with input as reading
}

test_missing_fires_when_it_is_not_known_whether_the_tool_has_an_amount if {
	every odd in [null, 0, "false", {}] {
		"amount.missing" in amount.block with input as json.patch(reading, [{"op": "replace", "path": "/action/tool/amount", "value": odd}])
	}
	"amount.missing" in amount.block with input as json.remove(reading, ["/action/tool/amount"])
}

test_missing_leaves_it_to_a_problem_that_explains_it if {
	not "amount.missing" in amount.block with input as json.remove(fixtures.replaced("/action/problems", ["amount.precision"]), ["/action/amount"])
}

test_missing_is_not_explained_by_problems_of_the_wrong_type if {
	"amount.missing" in amount.block with input as json.remove(fixtures.replaced("/action/problems", "amount.precision"), ["/action/amount"])
}
