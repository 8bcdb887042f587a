package placet.rules.registry

# METADATA
# scope: rule
# title: No resource
# description: What the action touches could not be derived from its arguments.
# custom:
#   remedy: change_call
#   remediation: Send the arguments that the tool's resource is derived from.
block contains "registry.resource_underivable" if "registry.resource_underivable" in input.action.problems

block contains "registry.resource_underivable" if {
	not resource_underivable_disproven
	not resource_underivable_explained
}

resource_underivable_disproven if {
	resource := input.action.resource
	is_string(resource.type)
	resource.type != ""
	is_string(resource.id)
	resource.id != ""
}

# Each problem blocks by itself, and may be why there is no resource.
resource_underivable_explained if {
	is_array(input.action.problems)
	count(input.action.problems) > 0
}
