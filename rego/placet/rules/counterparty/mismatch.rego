package placet.rules.counterparty

# METADATA
# scope: rule
# title: Counterparty does not match
# description: An entity that the call names is not the one that its record names.
# custom:
#   remedy: change_call
#   remediation: Name the counterparty of the record.
block contains "counterparty.mismatch" if {
	not mismatch_exempt
	not mismatch_disproven
	not mismatch_moot
}

# A tool without an entity that must match another. What is not known to have none is judged.
mismatch_exempt if {
	input.action.tool.must_match == []
	input.counts.must_match == 0
}

mismatch_disproven if {
	is_array(input.action.tool.must_match)
	count(input.action.tool.must_match) == input.counts.must_match
	every name in input.action.tool.must_match {
		input.entities[name].matched == true
	}
}

# Blocked already, by the reason that explains it.
mismatch_moot if "session.unknown" in data.placet.rules.session.block

mismatch_moot if "registry.unknown_tool" in data.placet.rules.registry.block
