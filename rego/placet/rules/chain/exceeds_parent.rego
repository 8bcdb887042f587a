package placet.rules.chain

# METADATA
# scope: rule
# title: Grant exceeds its parent
# description: A grant of the chain permits more, or longer, than the one that it was delegated from.
# custom:
#   remedy: ask
#   remediation: Have the work delegated again, within what the delegating agent holds.
block contains "chain.exceeds_parent" if {
	some problem in input.chain_problems
	problem.code == "chain.exceeds_parent"
}
