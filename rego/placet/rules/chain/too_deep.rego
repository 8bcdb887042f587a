package placet.rules.chain

# METADATA
# scope: rule
# title: Chain too long
# description: The chain has more delegations than the tenant permits.
# custom:
#   remedy: ask
#   remediation: Delegate from an agent nearer to the session's own.
block contains "chain.too_deep" if {
	some problem in input.chain_problems
	problem.code == "chain.too_deep"
}
