package placet.rules.registry

# METADATA
# scope: rule
# title: Incomplete registration
# description: What the registry says of the action could not be read in full.
# custom:
#   remedy: ask
#   remediation: None for the caller; an operator has to replace server and policy bundle together.
block contains "registry.incomplete" if {
	not incomplete_disproven
	not incomplete_moot
}

incomplete_disproven if {
	# A role that no rule here knows would be passed over.
	object.keys(input.action.tool.roles) == {"record", "counterparty", "order", "other"}
	incomplete_entities_known
}

incomplete_entities_known if {
	input.entities == {}
	input.counts.entities == 0
}

incomplete_entities_known if {
	told := [true | some entity in input.entities; is_boolean(entity.known)]
	count(told) == input.counts.entities
}

# What is no tool of the registry has neither roles nor entities, and is blocked for that.
incomplete_moot if input.action.tool.known == false
