package placet.rules.boundary

# METADATA
# scope: rule
# title: Tool outside the boundary
# description: The task's boundary does not include this tool.
# custom:
#   remedy: ask
#   remediation: Use a tool that the task needs, or have the issuer open a session with a wider boundary.
block contains "boundary.tool" if {
	not tool_proven
	not tool_moot
}

tool_proven if {
	tool_boundaries_readable
	input.session.state == "open"
	every boundary in input.boundaries { tool_named(boundary) }
}

# What may still be done once the task is completed.
tool_proven if {
	tool_boundaries_readable
	input.session.state == "completed"
	every boundary in input.boundaries {
		input.action.tool.name in boundary.after_completion
	}
}

tool_named(boundary) if input.action.tool.name in boundary.tools

tool_named(boundary) if {
	input.action.tool.known == true
	is_string(input.action.tool.effect)
	input.action.tool.effect in boundary.effects
}

# The session's own boundary leads; without it nothing is proven.
tool_boundaries_readable if {
	is_string(input.action.tool.name)
	input.boundaries[0].of == "session"
}

# Blocked already, by the reason that explains it.
tool_moot if count(data.placet.rules.session.block) > 0

tool_moot if "registry.unknown_tool" in data.placet.rules.registry.block

# Where to look: every boundary that does not name it.
findings contains object.union({"code": "boundary.tool"}, object.filter(boundary, {"of", "at"})) if {
	"boundary.tool" in block
	some boundary in input.boundaries
	is_object(boundary)
	not tool_named(boundary)
}
