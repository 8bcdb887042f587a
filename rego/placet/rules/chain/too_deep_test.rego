package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_too_deep_fires_for_the_problem if {
	"chain.too_deep" in chain.block with input as fixtures.broken([{"code": "chain.too_deep", "at": "chain[1]"}])
}

test_too_deep_fires_among_other_problems_and_without_a_session if {
	problems := [{"code": "x.y", "at": "chain[0]"}, {"code": "chain.too_deep"}]
	"chain.too_deep" in chain.block with input as fixtures.broken(problems)
	"chain.too_deep" in chain.block with input as json.patch(fixtures.without_session, [{
		"op": "replace",
		"path": "/chain_problems",
		"value": problems,
	}])
}

test_too_deep_quiet_for_a_proven_chain if {
	not "chain.too_deep" in chain.block with input as fixtures.document
	not "chain.too_deep" in chain.block with input as fixtures.delegated
}

test_too_deep_leaves_odd_problems_to_unproven if {
	every odd in [null, 1, "chain.too_deep", {"chain.too_deep": true}, ["chain.too_deep"], [{"code": null}], [{}]] {
		not "chain.too_deep" in chain.block with input as fixtures.broken(odd)
		"chain.unproven" in chain.block with input as fixtures.broken(odd)
	}
}

test_too_deep_leaves_missing_problems_to_unproven if {
	not "chain.too_deep" in chain.block with input as fixtures.removed("/chain_problems")
	"chain.unproven" in chain.block with input as fixtures.removed("/chain_problems")
}
