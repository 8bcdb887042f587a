package placet.rules.chain

# METADATA
# scope: rule
# title: Expired grant
# description: A grant of the chain has expired.
# custom:
#   remedy: ask
#   remediation: Have the work delegated again.
block contains "chain.expired" if {
	some problem in input.chain_problems
	problem.code == "chain.expired"
}
