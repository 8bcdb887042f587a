package placet.rules.chain

# METADATA
# scope: rule
# title: Chain not proven
# description: It is not proven on whose behalf the caller acts, and within which boundaries.
# custom:
#   remedy: ask
#   remediation: Act as the session's own agent, or send the grants from its own to yours.
block contains "chain.unproven" if {
	not unproven_disproven
	not unproven_moot
}

unproven_disproven if {
	is_array(input.chain)
	count(input.boundaries) == input.counts.boundaries
	every depth, hop in input.chain {
		hop.verified == true
		hop.depth == depth
		is_string(hop.agent)
		hop.agent != ""

		# The server says which of the boundaries that are judged is its own.
		is_object(input.boundaries[hop.boundary])
	}

	# The root's is the session's.
	input.chain[0].boundary == 0
	input.chain_problems == []
	input.counts.chain_problems == 0
	input.chain[0].agent == input.session.agent
	count(input.chain) == input.counts.chain
	input.chain[input.counts.chain - 1].agent in input.caller.agents
}

# Blocked already, by the reason that explains it.
unproven_moot if "session.unknown" in data.placet.rules.session.block

unproven_moot if unproven_explained

unproven_explained if {
	some problem in input.chain_problems
	problem.code in {
		"chain.invalid", "chain.foreign", "chain.exceeds_parent", "chain.expired",
		"chain.revoked", "chain.cycle", "chain.too_deep", "chain.not_holder",
	}
}
