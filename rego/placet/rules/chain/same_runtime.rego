package placet.rules.chain

import data.placet.settings

# METADATA
# scope: rule
# title: Agents that share a credential
# description: Two agents of the chain act by one credential, which the tenant does not permit.
# custom:
#   remedy: ask
#   remediation: Run the agent under an identity of its own.
block contains "chain.same_runtime" if {
	not same_runtime_permitted
	not same_runtime_disproven
	not same_runtime_moot
}

same_runtime_permitted if settings.effective.distinct_runtimes == false

same_runtime_disproven if {
	is_array(input.chain)
	count(input.chain) > 0
	every hop in input.chain { hop.own_runtime == true }
}

# Blocked already, by the reason that explains it.
same_runtime_moot if "session.unknown" in data.placet.rules.session.block

same_runtime_moot if unproven_explained
