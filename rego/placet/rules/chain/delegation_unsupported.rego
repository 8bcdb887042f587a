package placet.rules.chain

# METADATA
# scope: rule
# title: Delegation is not supported
# description: Only the session's own agent may act, by an identity that may speak for it.
# custom:
#   remediation: Act as the session's agent; or open a session for the agent that acts.
block contains "chain.delegation_unsupported" if {
	not delegation_unsupported_disproven
	not delegation_unsupported_moot
}

delegation_unsupported_disproven if {
	is_array(input.chain)
	count(input.chain) == 1
	agent := input.chain[0].agent
	is_string(agent)
	agent != ""
	input.chain[0].grant == ""
	agent == input.session.agent
	agent in input.caller.agents
}

# Blocked already, by the reason that explains it.
delegation_unsupported_moot if "session.unknown" in data.placet.rules.session.block
