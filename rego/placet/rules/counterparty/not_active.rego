package placet.rules.counterparty

# METADATA
# scope: rule
# title: Counterparty not active
# description: The counterparty is blocked, or not known to be active.
# custom:
#   remediation: Have the counterparty's record checked; the block holds until its status is active.
block contains "counterparty.not_active" if {
	active_judged
	not active_proven
	not active_moot
}

# Every tool that is registered as dealing with somebody. What is not known to deal with nobody is judged.
active_judged if "counterparty" in input.action.tool.roles

active_judged if {
	input.action.tool.known == true
	not active_roles_known
}

active_roles_known if is_array(input.action.tool.roles)

active_proven if {
	input.action.counterparty.known == true
	input.action.counterparty.status == "active"
}

# Blocked already, by the reason that explains it.
active_moot if "session.unknown" in data.placet.rules.session.block
