package placet.rules.registry

# METADATA
# scope: rule
# title: Invalid arguments
# description: The arguments do not fit the tool's schema.
# custom:
#   remedy: change_call
#   remediation: Send arguments that fit the tool's schema.
block contains "registry.arguments_invalid" if "registry.arguments_invalid" in input.action.problems
