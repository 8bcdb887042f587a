package placet.rules.counterparty

# METADATA
# scope: rule
# title: Counterparty does not match
# description: An entity that the call names is not the one that its record names.
# custom:
#   remediation: Name the counterparty of the record.
block contains "counterparty.mismatch" if {
	mismatch_judged
	not mismatch_disproven
	not mismatch_moot
}

# Every tool with an entity that must match another. What is not known to have none is judged.
mismatch_judged if count(input.action.tool.must_match) > 0

mismatch_judged if {
	input.action.tool.known == true
	not mismatch_listed
}

mismatch_listed if is_array(input.action.tool.must_match)

mismatch_disproven if {
	mismatch_listed
	every name in input.action.tool.must_match {
		input.entities[name].matched == true
	}
}

# Blocked already, by the reason that explains it.
mismatch_moot if "session.unknown" in data.placet.rules.session.block
