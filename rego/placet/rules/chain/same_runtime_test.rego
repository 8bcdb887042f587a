package placet.rules.chain_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.chain

distinct := {"op": "replace", "path": "/settings", "value": {"distinct_runtimes": true}}

shared := {"op": "replace", "path": "/chain/1/own_runtime", "value": false}

test_same_runtime_fires_where_runtimes_must_be_distinct if {
	"chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct, shared])
		with data.placet.defaults as fixtures.defaults
}

test_same_runtime_quiet_for_distinct_runtimes if {
	not "chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct])
		with data.placet.defaults as fixtures.defaults
}

test_same_runtime_quiet_where_it_is_permitted if {
	not "chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [shared])
		with data.placet.defaults as fixtures.defaults
}

test_same_runtime_fires_for_hops_missing_or_of_the_wrong_type if {
	every odd in [null, "false", 0, []] {
		patch := {"op": "replace", "path": "/chain/1/own_runtime", "value": odd}
		"chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct, patch])
			with data.placet.defaults as fixtures.defaults
	}
	every odd in [null, [], {}, {"a": {"own_runtime": true}}] {
		patch := {"op": "replace", "path": "/chain", "value": odd}
		"chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct, patch])
			with data.placet.defaults as fixtures.defaults
	}
}

test_same_runtime_fires_for_a_setting_missing_or_of_the_wrong_type if {
	"chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [shared])
		with data.placet.defaults as null
	every odd in [null, 0, "false", []] {
		patch := {"op": "replace", "path": "/settings", "value": {"distinct_runtimes": odd}}
		"chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [shared, patch])
			with data.placet.defaults as fixtures.defaults
	}
}

test_same_runtime_is_moot_when_another_reason_explains_the_block if {
	broken := {"op": "replace", "path": "/chain_problems", "value": [{"code": "chain.revoked", "at": "chain[1]"}]}
	not "chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct, shared, broken])
		with data.placet.defaults as fixtures.defaults
	gone := {"op": "replace", "path": "/session", "value": null}
	not "chain.same_runtime" in chain.block with input as json.patch(fixtures.delegated, [distinct, shared, gone])
		with data.placet.defaults as fixtures.defaults
}
