package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

changed(document, path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

test_unproven_quiet_for_the_sessions_own_agent if {
	not "chain.unproven" in chain.block with input as fixtures.document
}

test_unproven_quiet_for_a_proven_chain if {
	not "chain.unproven" in chain.block with input as fixtures.delegated
}

test_unproven_fires_for_a_hop_that_is_not_verified if {
	every odd in [false, null, "true", 1] {
		"chain.unproven" in chain.block with input as changed(fixtures.document, "/chain/0/verified", odd)
		"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/chain/1/verified", odd)
	}
	"chain.unproven" in chain.block with input as fixtures.removed("/chain/0/verified")
}

test_unproven_fires_for_a_hop_that_nobody_checked if {
	"chain.unproven" in chain.block with input as fixtures.replaced("/chain/1", {"agent": "agent:payer", "grant": "eyJ"})
}

test_unproven_fires_for_a_chain_that_does_not_begin_with_the_sessions_agent if {
	"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/chain/0/agent", "agent:other")
	"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/session/agent", "agent:other")
	"chain.unproven" in chain.block with input as fixtures.removed("/session/agent")
}

test_unproven_fires_when_the_caller_may_not_speak_for_the_last_agent if {
	every odd in [["agent:other"], ["agent:payer"], [], null, "agent:clerk"] {
		"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/caller/agents", odd)
	}
	"chain.unproven" in chain.block with input as fixtures.removed("/caller/agents")
}

test_unproven_fires_for_hops_out_of_order if {
	every odd in [0, 2, "1", null] {
		"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/chain/1/depth", odd)
	}
	"chain.unproven" in chain.block with input as fixtures.removed("/chain/0/depth")
}

test_unproven_fires_for_an_empty_chain if {
	"chain.unproven" in chain.block with input as fixtures.replaced("/chain", [])
}

test_unproven_fires_for_a_chain_of_the_wrong_type if {
	every odd in [null, "agent:payer", {"0": fixtures.document.chain[0]}, ["agent:payer"], [null]] {
		"chain.unproven" in chain.block with input as fixtures.replaced("/chain", odd)
	}
}

test_unproven_fires_for_an_agent_of_the_wrong_type if {
	every odd in [null, "", 1] {
		document := json.patch(fixtures.document, [
			{"op": "replace", "path": "/chain/0/agent", "value": odd},
			{"op": "replace", "path": "/session/agent", "value": odd},
			{"op": "replace", "path": "/caller/agents", "value": [odd]},
		])
		"chain.unproven" in chain.block with input as document
	}
}

test_unproven_fires_without_a_chain if {
	"chain.unproven" in chain.block with input as fixtures.removed("/chain")
}

test_unproven_fires_for_a_grant_whose_boundary_is_not_judged if {
	gone := json.patch(fixtures.delegated, [
		{"op": "remove", "path": "/boundaries/1"},
		{"op": "replace", "path": "/counts/boundaries", "value": 1},
	])
	"chain.unproven" in chain.block with input as gone
	every odd in [2, -1, "1", null, {}] {
		"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/chain/1/boundary", odd)
	}
	unsaid := json.patch(fixtures.delegated, [{"op": "remove", "path": "/chain/1/boundary"}])
	"chain.unproven" in chain.block with input as unsaid
}

test_unproven_fires_for_a_root_whose_boundary_is_not_the_sessions if {
	"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/chain/0/boundary", 1)
}

test_unproven_quiet_for_a_grant_that_permits_what_one_above_does if {
	same := json.patch(fixtures.delegated, [
		{"op": "remove", "path": "/boundaries/1"},
		{"op": "replace", "path": "/counts/boundaries", "value": 1},
		{"op": "replace", "path": "/chain/1/boundary", "value": 0},
	])
	not "chain.unproven" in chain.block with input as same
}

test_unproven_fires_when_a_hop_a_boundary_or_a_problem_was_lost if {
	# Whoever speaks for both agents could leave out the one that is trusted less, and its boundary.
	both := changed(fixtures.delegated, "/caller/agents", ["agent:payer", "agent:clerk"])
	not "chain.unproven" in chain.block with input as both
	"chain.unproven" in chain.block with input as json.remove(both, ["/chain/1"])
	every name in ["boundaries", "chain", "chain_problems"] {
		path := sprintf("/counts/%s", [name])
		"chain.unproven" in chain.block with input as changed(fixtures.document, path, fixtures.document.counts[name] + 1)
		"chain.unproven" in chain.block with input as fixtures.removed(path)
	}
	"chain.unproven" in chain.block with input as fixtures.removed("/counts")
}

test_unproven_fires_for_boundaries_missing_or_of_the_wrong_type if {
	every odd in [null, "", 1, {}] {
		"chain.unproven" in chain.block with input as changed(fixtures.delegated, "/boundaries", odd)
	}
	"chain.unproven" in chain.block with input as json.patch(fixtures.delegated, [{"op": "remove", "path": "/boundaries"}])
}

test_unproven_fires_for_a_problem_that_no_rule_knows if {
	"chain.unproven" in chain.block with input as fixtures.broken([{"code": "chain.new", "at": "chain[1]"}])
}

test_unproven_is_moot_where_a_rule_explains_the_problem if {
	every code in {
		"chain.invalid", "chain.foreign", "chain.exceeds_parent", "chain.expired",
		"chain.revoked", "chain.cycle", "chain.too_deep", "chain.not_holder",
	} {
		codes := chain.block with input as fixtures.broken([{"code": code, "at": "chain[1]"}])
			with data.placet.defaults as fixtures.defaults
		codes == {code}
	}
}

test_unproven_is_moot_without_a_session if {
	not "chain.unproven" in chain.block with input as fixtures.replaced("/session", null)
}
