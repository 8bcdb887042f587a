package placet.rules.boundary

# METADATA
# scope: rule
# title: Resource outside the boundary
# description: The task's boundary does not include this resource.
# custom:
#   remedy: ask
#   remediation: Act on a resource that the task names, or have the issuer open a session with a wider boundary.
block contains "boundary.resource" if {
	not resource_proven
	not resource_moot
}

resource_proven if {
	input.boundaries[0].of == "session"
	is_string(input.action.resource.type)
	is_string(input.action.resource.id)
	every boundary in input.boundaries { resource_within(boundary) }
}

resource_within(boundary) if {
	some permitted in boundary.resources
	permitted.type == input.action.resource.type
	resource_matches(permitted)
}

# A rule has exactly these members: one that says more is not understood, and permits nothing.
resource_matches(permitted) if {
	permitted.id == input.action.resource.id
	count(permitted) == 2
}

resource_matches(permitted) if {
	is_array(permitted.ids)
	input.action.resource.id in permitted.ids
	count(permitted) == 2
}

resource_matches(permitted) if {
	permitted.any == true
	count(permitted) == 2
}

# An empty one would permit every id, which `any` says.
resource_matches(permitted) if {
	is_string(permitted.prefix)
	permitted.prefix != ""
	startswith(input.action.resource.id, permitted.prefix)
	count(permitted) == 2
}

# The ids that stand in an attribute of listed entities, as they were read for this decision.
resource_matches(permitted) if {
	is_array(permitted.resolved)
	input.action.resource.id in permitted.resolved
	object.keys(permitted) == {"type", "attribute", "resolved"}
	object.keys(permitted.attribute) == {"of_type", "attribute"}
}

# Blocked already, by the reason that explains it.
resource_moot if "session.unknown" in data.placet.rules.session.block

resource_moot if count(data.placet.rules.registry.block) > 0

# Where to look: every boundary that does not include it.
findings contains object.union({"code": "boundary.resource"}, object.filter(boundary, {"of", "at"})) if {
	"boundary.resource" in block
	some boundary in input.boundaries
	is_object(boundary)
	not resource_within(boundary)
}
