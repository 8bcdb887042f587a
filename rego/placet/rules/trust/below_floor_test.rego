package placet.rules.trust_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.trust

test_below_floor_fires_below if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/agents/agent:payer/trust", 0.49) with data.placet.defaults as fixtures.defaults
}

test_below_floor_quiet_at_the_floor if {
	not "trust.below_floor" in trust.escalate with input as fixtures.replaced("/agents/agent:payer/trust", 0.5) with data.placet.defaults as fixtures.defaults
}

test_below_floor_quiet_for_an_effect_without_a_floor if {
	not "trust.below_floor" in trust.escalate with input as fixtures.replaced("/action/tool/effect", "read") with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_without_trust if {
	"trust.below_floor" in trust.escalate with input as fixtures.removed("/agents/agent:payer/trust") with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_for_trust_of_the_wrong_type if {
	every odd in [null, "0.9", true, {}, [1]] {
		"trust.below_floor" in trust.escalate with input as fixtures.replaced("/agents/agent:payer/trust", odd)
			with data.placet.defaults as fixtures.defaults
	}
}

test_below_floor_fires_for_an_unknown_agent if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/agents", {}) with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_when_one_of_the_chain_is_below if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/chain/1", {"agent": "agent:other"}) with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_for_an_empty_chain if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/chain", []) with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_for_a_chain_of_the_wrong_type if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/chain", {"a": {"agent": "agent:payer"}}) with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_without_a_chain if {
	"trust.below_floor" in trust.escalate with input as fixtures.removed("/chain") with data.placet.defaults as fixtures.defaults
}

test_below_floor_is_moot_for_an_unknown_tool if {
	not "trust.below_floor" in trust.escalate with input as fixtures.removed("/action/tool/effect")
		with data.placet.defaults as fixtures.defaults
	not trust.below_floor_exempt with input as fixtures.removed("/action/tool/effect")
		with data.placet.defaults as fixtures.defaults
}

test_below_floor_is_moot_without_a_session if {
	not "trust.below_floor" in trust.escalate with input as fixtures.replaced("/session", null)
		with data.placet.defaults as fixtures.defaults
}

test_below_floor_takes_the_tenants_own_floor if {
	"trust.below_floor" in trust.escalate with input as fixtures.replaced("/settings", {"trust_floor": {"pay": 0.9}}) with data.placet.defaults as fixtures.defaults
	not "trust.below_floor" in trust.escalate with input as fixtures.replaced("/settings", {"trust_floor": {"send": 0.9}}) with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_for_a_floor_of_the_wrong_type if {
	every odd in [null, "0.5", {"pay": "0.1"}, {"pay": null}] {
		"trust.below_floor" in trust.escalate with input as fixtures.replaced("/settings/trust_floor", odd)
			with data.placet.defaults as fixtures.defaults
	}
}

test_below_floor_fires_without_settings if {
	"trust.below_floor" in trust.escalate with input as fixtures.removed("/settings") with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_without_defaults if {
	"trust.below_floor" in trust.escalate with input as fixtures.document with data.placet.defaults as null
}

test_below_floor_leaves_a_chain_that_is_wrong_to_the_chains_own_code if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/agents", "value": {}},
		{"op": "replace", "path": "/chain_problems", "value": [{"code": "chain.revoked", "at": "chain[1]"}]},
	])
	not "trust.below_floor" in trust.escalate with input as document with data.placet.defaults as fixtures.defaults
	"chain.revoked" in data.placet.rules.chain.block with input as document with data.placet.defaults as fixtures.defaults
}

test_below_floor_fires_beside_a_problem_that_nobody_knows if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/agents", "value": {}},
		{"op": "replace", "path": "/chain_problems", "value": [{"code": "chain.other", "at": "chain[1]"}]},
	])
	"trust.below_floor" in trust.escalate with input as document with data.placet.defaults as fixtures.defaults
}

test_below_floor_names_the_hop_that_is_below if {
	document := json.patch(fixtures.delegated, [{"op": "replace", "path": "/agents/agent:clerk/trust", "value": 0.4}])
	trust.findings == {{"code": "trust.below_floor", "hop": 1}} with input as document with data.placet.defaults as fixtures.defaults
}
