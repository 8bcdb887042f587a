package placet.rules.registry

# METADATA
# scope: rule
# title: Unknown tool
# description: The tool is not in the registry.
# custom:
#   remedy: ask
#   remediation: Have an operator register the tool, with its effect and how its resource is derived.
block contains "registry.unknown_tool" if not unknown_tool_disproven

block contains "registry.unknown_tool" if "registry.unknown_tool" in input.action.problems

unknown_tool_disproven if {
	input.action.tool.known == true
	is_string(input.action.tool.name)
	input.action.tool.effect in {"read", "write", "send", "pay", "delete", "share", "credential"}
}
