package placet.rules.boundary

# METADATA
# scope: rule
# title: Tool outside the boundary
# description: The task's boundary does not include this tool.
# custom:
#   remediation: Use a tool that the task needs, or have the issuer open a session with a wider boundary.
block contains "boundary.tool" if {
	not tool_proven
	not tool_moot
}

tool_proven if {
	is_string(input.action.tool.name)
	input.action.tool.name in input.session.boundary.tools
}

tool_proven if {
	input.action.tool.known == true
	is_string(input.action.tool.effect)
	input.action.tool.effect in input.session.boundary.effects
}

# Blocked already, by the reason that explains it.
tool_moot if "session.unknown" in data.placet.rules.session.block

tool_moot if "registry.unknown_tool" in data.placet.rules.registry.block
