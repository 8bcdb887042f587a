package placet.rules.counterparty

# METADATA
# scope: rule
# title: Counterparty not active
# description: The counterparty is blocked, or not known to be active.
# custom:
#   remedy: ask
#   remediation: Have the counterparty's record checked; the block holds until its status is active.
block contains "counterparty.not_active" if {
	not active_exempt
	not active_proven
	not active_moot
}

# A tool that is registered without somebody to deal with. What is not known to deal with nobody is judged.
active_exempt if input.action.tool.roles.counterparty == false

active_proven if {
	input.action.counterparty.known == true
	input.action.counterparty.status == "active"
}

# Blocked already, by the reason that explains it.
active_moot if "session.unknown" in data.placet.rules.session.block

active_moot if "registry.unknown_tool" in data.placet.rules.registry.block
