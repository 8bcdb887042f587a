package placet.rules.counterparty

# METADATA
# scope: rule
# title: Counterparty not active
# description: The counterparty is blocked, or not known to be active.
# custom:
#   remediation: Have the counterparty's record checked; the block holds until its status is active.
block contains "counterparty.not_active" if {
	not_active_judged
	not not_active_disproven
	not not_active_moot
}

# Every tool that is registered as dealing with somebody. What is not known to deal with nobody is judged.
not_active_judged if "counterparty" in input.action.tool.roles

not_active_judged if {
	input.action.tool.known == true
	not not_active_roles_known
}

not_active_roles_known if is_array(input.action.tool.roles)

not_active_disproven if {
	input.action.counterparty.known == true
	input.action.counterparty.status == "active"
}

# Blocked already, by the reason that explains it.
not_active_moot if "session.unknown" in data.placet.rules.session.block
