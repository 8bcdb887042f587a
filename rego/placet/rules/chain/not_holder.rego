package placet.rules.chain

# METADATA
# scope: rule
# title: Grant of another agent
# description: The last grant of the chain is for an agent that the caller may not speak for.
# custom:
#   remedy: ask
#   remediation: Act by the identity that the work was delegated to.
block contains "chain.not_holder" if {
	some problem in input.chain_problems
	problem.code == "chain.not_holder"
}
