package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_foreign_fires_for_the_problem if {
	"chain.foreign" in chain.block with input as fixtures.broken([{"code": "chain.foreign", "at": "chain[1]"}])
}

test_foreign_fires_among_other_problems_and_without_a_session if {
	problems := [{"code": "x.y", "at": "chain[0]"}, {"code": "chain.foreign"}]
	"chain.foreign" in chain.block with input as fixtures.broken(problems)
	"chain.foreign" in chain.block with input as json.patch(fixtures.without_session, [{
		"op": "replace",
		"path": "/chain_problems",
		"value": problems,
	}])
}

test_foreign_quiet_for_a_proven_chain if {
	not "chain.foreign" in chain.block with input as fixtures.document
	not "chain.foreign" in chain.block with input as fixtures.delegated
}

test_foreign_leaves_odd_problems_to_unproven if {
	every odd in [null, 1, "chain.foreign", {"chain.foreign": true}, ["chain.foreign"], [{"code": null}], [{}]] {
		not "chain.foreign" in chain.block with input as fixtures.broken(odd)
		"chain.unproven" in chain.block with input as fixtures.broken(odd)
	}
}

test_foreign_leaves_missing_problems_to_unproven if {
	not "chain.foreign" in chain.block with input as fixtures.removed("/chain_problems")
	"chain.unproven" in chain.block with input as fixtures.removed("/chain_problems")
}
