package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_cycle_fires_for_the_problem if {
	"chain.cycle" in chain.block with input as fixtures.broken([{"code": "chain.cycle", "at": "chain[1]"}])
}

test_cycle_fires_among_other_problems_and_without_a_session if {
	problems := [{"code": "x.y", "at": "chain[0]"}, {"code": "chain.cycle"}]
	"chain.cycle" in chain.block with input as fixtures.broken(problems)
	"chain.cycle" in chain.block with input as json.patch(fixtures.without_session, [{
		"op": "replace",
		"path": "/chain_problems",
		"value": problems,
	}])
}

test_cycle_quiet_for_a_proven_chain if {
	not "chain.cycle" in chain.block with input as fixtures.document
	not "chain.cycle" in chain.block with input as fixtures.delegated
}

test_cycle_leaves_odd_problems_to_unproven if {
	every odd in [null, 1, "chain.cycle", {"chain.cycle": true}, ["chain.cycle"], [{"code": null}], [{}]] {
		not "chain.cycle" in chain.block with input as fixtures.broken(odd)
		"chain.unproven" in chain.block with input as fixtures.broken(odd)
	}
}

test_cycle_leaves_missing_problems_to_unproven if {
	not "chain.cycle" in chain.block with input as fixtures.removed("/chain_problems")
	"chain.unproven" in chain.block with input as fixtures.removed("/chain_problems")
}
