package placet.rules.action

# METADATA
# scope: rule
# title: Another audience
# description: The receipt was asked for another audience than the registry names for the tool.
# custom:
#   remedy: ask
#   remediation: Name no audience, or the one that the tool is registered with.
block contains "action.audience" if "action.audience" in input.action.problems
