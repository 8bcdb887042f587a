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
		{"op": "replace", "path": "/boundaries/0/tools", "value": [null]},
	])
	not boundary.tool_proven with input as document
}

test_tool_fires_without_a_boundary if {
	"boundary.tool" in boundary.block with input as fixtures.removed("/boundaries/0")
}

test_tool_fires_for_an_empty_boundary if {
	"boundary.tool" in boundary.block with input as fixtures.replaced("/boundaries/0", {})
}

test_tool_fires_for_a_boundary_of_the_wrong_type if {
	every odd in [null, "payments.create", 1, {"tools": "payments.create"}] {
		"boundary.tool" in boundary.block with input as fixtures.replaced("/boundaries/0", odd)
	}
}

test_tool_is_moot_without_a_session if {
	not "boundary.tool" in boundary.block with input as fixtures.without_session
	not boundary.tool_proven with input as fixtures.without_session
}

test_tool_is_moot_when_the_session_blocks if {
	every state in ["completed", "closed", "expired", "halted"] {
		not "boundary.tool" in boundary.block with input as fixtures.replaced("/session/state", state)
	}
}

test_tool_is_moot_for_an_unknown_tool if {
	not "boundary.tool" in boundary.block with input as fixtures.replaced("/action/tool", {"name": "x", "known": false})
}

test_tool_proves_nothing_without_a_document if {
	not boundary.tool_proven with input as {}
}

test_tool_fires_unless_every_boundary_includes_it if {
	narrower := {"of": "template", "tools": ["invoices.approve"]}
	"boundary.tool" in boundary.block with input as fixtures.replaced("/boundaries/-", narrower)
}

test_tool_quiet_when_every_boundary_includes_it if {
	wider := {"of": "template", "effects": ["pay"]}
	not "boundary.tool" in boundary.block with input as fixtures.replaced("/boundaries/-", wider)
}

test_tool_fires_without_the_sessions_own_boundary if {
	every odd in [[], null, {}, [{"of": "template", "effects": ["pay"]}]] {
		"boundary.tool" in boundary.block with input as fixtures.replaced("/boundaries", odd)
	}
}

test_tool_fires_before_completion_for_a_tool_of_after_it if {
	"boundary.tool" in boundary.block with input as fixtures.replaced("/action/tool/name", "report.create")
}

completed(name) := json.patch(fixtures.document, [
	{"op": "replace", "path": "/session/state", "value": "completed"},
	{"op": "replace", "path": "/action/tool/name", "value": name},
])

test_tool_quiet_after_completion_for_a_tool_of_after_it if {
	not "boundary.tool" in boundary.block with input as completed("report.create")
}

test_tool_fires_after_completion_for_a_tool_of_before if {
	not boundary.tool_proven with input as completed("payments.create")
}

test_tool_fires_after_completion_unless_every_boundary_says_so if {
	template := {"op": "add", "path": "/boundaries/-", "value": {"of": "template", "tools": ["report.create"]}}
	not boundary.tool_proven with input as json.patch(completed("report.create"), [template])
}

test_tool_fires_in_any_other_state if {
	every state in ["closed", "expired", "halted"] {
		not boundary.tool_proven with input as fixtures.replaced("/session/state", state)
	}
}

test_tool_names_the_boundary_that_lacks_it if {
	document := json.patch(fixtures.delegated, [{"op": "replace", "path": "/boundaries/1/tools", "value": []}])
	boundary.findings == {{"code": "boundary.tool", "of": "grant", "at": "chain[1]"}} with input as document
	boundary.findings == set() with input as fixtures.delegated
}
