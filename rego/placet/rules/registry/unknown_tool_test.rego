package placet.rules.registry_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.registry

test_unknown_tool_fires if {
	"registry.unknown_tool" in registry.block with input as fixtures.replaced("/action/tool", {"name": "x", "known": false})
}

test_unknown_tool_fires_for_the_problem if {
	"registry.unknown_tool" in registry.block with input as fixtures.replaced("/action/problems", ["registry.unknown_tool"])
}

test_unknown_tool_quiet_for_a_known_tool if {
	not "registry.unknown_tool" in registry.block with input as fixtures.document
}

test_unknown_tool_quiet_for_every_effect if {
	every effect in ["read", "write", "send", "pay", "delete", "share", "credential"] {
		not "registry.unknown_tool" in registry.block with input as fixtures.replaced("/action/tool/effect", effect)
	}
}

test_unknown_tool_fires_for_odd_knowledge if {
	every odd in [null, "true", 1, {}] {
		"registry.unknown_tool" in registry.block with input as fixtures.replaced("/action/tool/known", odd)
	}
}

test_unknown_tool_fires_for_an_odd_effect if {
	every odd in [null, "", "PAY", "destroy", ["pay"]] {
		"registry.unknown_tool" in registry.block with input as fixtures.replaced("/action/tool/effect", odd)
	}
}

test_unknown_tool_fires_without_a_name if {
	"registry.unknown_tool" in registry.block with input as fixtures.removed("/action/tool/name")
}

test_unknown_tool_fires_without_a_document if {
	"registry.unknown_tool" in registry.block with input as {}
}
