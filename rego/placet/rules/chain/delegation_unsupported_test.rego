package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

test_delegation_unsupported_fires_for_a_second_hop if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/chain/1", {"agent": "agent:other", "grant": ""})
}

test_delegation_unsupported_quiet_for_the_sessions_own_agent if {
	not "chain.delegation_unsupported" in chain.block with input as fixtures.document
}

test_delegation_unsupported_fires_for_another_agent if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/chain/0/agent", "agent:other")
}

test_delegation_unsupported_fires_when_the_caller_may_not_speak_for_the_agent if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/caller/agents", ["agent:other"])
}

test_delegation_unsupported_fires_with_a_grant_that_nobody_checked if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/chain/0/grant", "eyJ")
}

test_delegation_unsupported_fires_for_an_empty_chain if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/chain", [])
}

test_delegation_unsupported_fires_for_a_chain_of_the_wrong_type if {
	every odd in [null, "agent:payer", {"0": {"agent": "agent:payer", "grant": ""}}, ["agent:payer"]] {
		"chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/chain", odd)
	}
}

test_delegation_unsupported_fires_for_an_agent_of_the_wrong_type if {
	every odd in [null, "", 1] {
		document := json.patch(fixtures.document, [
			{"op": "replace", "path": "/chain/0/agent", "value": odd},
			{"op": "replace", "path": "/session/agent", "value": odd},
			{"op": "replace", "path": "/caller/agents", "value": [odd]},
		])
		"chain.delegation_unsupported" in chain.block with input as document
	}
}

test_delegation_unsupported_fires_without_a_chain if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.removed("/chain")
}

test_delegation_unsupported_fires_without_the_callers_agents if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.removed("/caller/agents")
}

test_delegation_unsupported_fires_without_the_sessions_agent if {
	"chain.delegation_unsupported" in chain.block with input as fixtures.removed("/session/agent")
}

test_delegation_unsupported_is_moot_without_a_session if {
	not "chain.delegation_unsupported" in chain.block with input as fixtures.replaced("/session", null)
}
