package placet.rules.chain

# METADATA
# scope: rule
# title: Agent twice on the chain
# description: An agent stands on the chain twice.
# custom:
#   remedy: ask
#   remediation: Let the agent act on its own grant.
block contains "chain.cycle" if {
	some problem in input.chain_problems
	problem.code == "chain.cycle"
}
