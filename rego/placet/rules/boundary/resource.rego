package placet.rules.boundary

# METADATA
# scope: rule
# title: Resource outside the boundary
# description: The task's boundary does not include this resource.
# custom:
#   remediation: Act on a resource that the task names, or have the issuer open a session with a wider boundary.
block contains "boundary.resource" if {
	not resource_proven
	not resource_moot
}

resource_proven if {
	input.boundaries[0].of == "session"
	every boundary in input.boundaries { resource_within(boundary) }
}

resource_within(boundary) if {
	some permitted in boundary.resources
	permitted.type == input.action.resource.type
	is_string(permitted.type)
	resource_matches(permitted, input.action.resource.id)
}

resource_matches(permitted, id) if {
	is_string(id)
	object.keys(permitted) == {"type", "id"}
	permitted.id == id
}

resource_matches(permitted, id) if {
	is_string(id)
	object.keys(permitted) == {"type", "ids"}
	is_array(permitted.ids)
	id in permitted.ids
}

resource_matches(permitted, id) if {
	is_string(id)
	object.keys(permitted) == {"type", "prefix"}
	is_string(permitted.prefix)
	startswith(id, permitted.prefix)
}

# The ids that stand in an attribute of listed entities, as they were read for this decision.
resource_matches(permitted, id) if {
	is_string(id)
	object.keys(permitted) == {"type", "attribute", "resolved"}
	object.keys(permitted.attribute) == {"of_type", "attribute"}
	is_array(permitted.resolved)
	id in permitted.resolved
}

# Blocked already, by the reason that explains it.
resource_moot if "session.unknown" in data.placet.rules.session.block

resource_moot if count(data.placet.rules.registry.block) > 0
