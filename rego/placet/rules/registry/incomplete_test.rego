package placet.rules.registry_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.registry

test_incomplete_quiet_for_a_whole_registration if {
	not "registry.incomplete" in registry.block with input as fixtures.document
}

test_incomplete_quiet_for_a_tool_without_entities if {
	alone := json.patch(fixtures.document, [
		{"op": "replace", "path": "/entities", "value": {}},
		{"op": "replace", "path": "/counts/entities", "value": 0},
	])
	not "registry.incomplete" in registry.block with input as alone
}

test_incomplete_fires_for_a_role_that_is_missing_or_new if {
	"registry.incomplete" in registry.block with input as fixtures.removed("/action/tool/roles/order")
	"registry.incomplete" in registry.block with input as fixtures.replaced("/action/tool/roles/witness", true)
}

test_incomplete_fires_for_roles_that_are_missing_or_odd if {
	"registry.incomplete" in registry.block with input as fixtures.removed("/action/tool/roles")
	every odd in [null, "counterparty", ["record", "counterparty", "order", "other"], {}] {
		"registry.incomplete" in registry.block with input as fixtures.replaced("/action/tool/roles", odd)
	}
}

test_incomplete_fires_for_an_entity_that_is_missing if {
	"registry.incomplete" in registry.block with input as fixtures.removed("/entities/vendor")
	"registry.incomplete" in registry.block with input as fixtures.replaced("/entities", {})
	"registry.incomplete" in registry.block with input as fixtures.removed("/entities")
}

test_incomplete_fires_for_an_entity_that_is_known_or_not_nobody_says if {
	"registry.incomplete" in registry.block with input as fixtures.removed("/entities/order/known")
	every odd in [null, "true", 1, []] {
		"registry.incomplete" in registry.block with input as fixtures.replaced("/entities/order/known", odd)
	}
}

test_incomplete_fires_without_counts if {
	"registry.incomplete" in registry.block with input as fixtures.removed("/counts/entities")
	"registry.incomplete" in registry.block with input as fixtures.removed("/counts")
}

test_incomplete_is_moot_for_a_tool_that_is_not_known if {
	unknown := json.remove(fixtures.replaced("/action/tool/known", false), ["/action/tool/roles"])
	not "registry.incomplete" in registry.block with input as unknown
	"registry.incomplete" in registry.block with input as json.remove(unknown, ["/action/tool/known"])
}
