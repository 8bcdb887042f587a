package placet.rules.action

# METADATA
# scope: rule
# title: Another resource
# description: The resource that was claimed is not the one that the arguments name.
# custom:
#   remedy: change_call
#   remediation: Claim no resource, or the one that the arguments name.
block contains "action.resource_mismatch" if "action.resource_mismatch" in input.action.problems
