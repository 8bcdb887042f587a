package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_expired_fires_for_the_problem if {
	"chain.expired" in chain.block with input as fixtures.broken([{"code": "chain.expired", "at": "chain[1]"}])
}

test_expired_fires_among_other_problems_and_without_a_session if {
	problems := [{"code": "x.y", "at": "chain[0]"}, {"code": "chain.expired"}]
	"chain.expired" in chain.block with input as fixtures.broken(problems)
	"chain.expired" in chain.block with input as json.patch(fixtures.without_session, [{
		"op": "replace",
		"path": "/chain_problems",
		"value": problems,
	}])
}

test_expired_quiet_for_a_proven_chain if {
	not "chain.expired" in chain.block with input as fixtures.document
	not "chain.expired" in chain.block with input as fixtures.delegated
}

test_expired_leaves_odd_problems_to_unproven if {
	every odd in [null, 1, "chain.expired", {"chain.expired": true}, ["chain.expired"], [{"code": null}], [{}]] {
		not "chain.expired" in chain.block with input as fixtures.broken(odd)
		"chain.unproven" in chain.block with input as fixtures.broken(odd)
	}
}

test_expired_leaves_missing_problems_to_unproven if {
	not "chain.expired" in chain.block with input as fixtures.removed("/chain_problems")
	"chain.unproven" in chain.block with input as fixtures.removed("/chain_problems")
}
