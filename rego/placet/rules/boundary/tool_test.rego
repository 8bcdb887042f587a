package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_tool_fires_outside_the_boundary if {
	"boundary.tool" in boundary.block with input as fixtures.replaced("/action/tool/name", "payments.cancel")
}

test_tool_quiet_for_a_listed_tool if {
	not "boundary.tool" in boundary.block with input as fixtures.document
}

test_tool_quiet_for_a_listed_effect if {
	not "boundary.tool" in boundary.block with input as fixtures.replaced("/action/tool", {"name": "invoices.read", "known": true, "effect": "read"})
}

test_tool_fires_when_only_the_effect_of_an_unknown_tool_fits if {
	not boundary.tool_proven with input as fixtures.replaced("/action/tool", {"name": "x", "known": false, "effect": "read"})
}

test_tool_fires_for_a_name_of_the_wrong_type if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/tool/name", "value": null},
		{"op": "replace", "path": "/session/boundary/tools", "value": [null]},
	])
	not boundary.tool_proven with input as document
}

test_tool_fires_without_a_boundary if {
	"boundary.tool" in boundary.block with input as fixtures.removed("/session/boundary")
}

test_tool_fires_for_an_empty_boundary if {
	"boundary.tool" in boundary.block with input as fixtures.replaced("/session/boundary", {})
}

test_tool_fires_for_a_boundary_of_the_wrong_type if {
	every odd in [null, "payments.create", 1, {"tools": "payments.create"}] {
		"boundary.tool" in boundary.block with input as fixtures.replaced("/session/boundary", odd)
	}
}

test_tool_is_moot_without_a_session if {
	not "boundary.tool" in boundary.block with input as fixtures.replaced("/session", null)
	not boundary.tool_proven with input as fixtures.replaced("/session", null)
}

test_tool_is_moot_for_an_unknown_tool if {
	not "boundary.tool" in boundary.block with input as fixtures.replaced("/action/tool", {"name": "x", "known": false})
}

test_tool_proves_nothing_without_a_document if {
	not boundary.tool_proven with input as {}
}
