package placet.rules.chain

# METADATA
# scope: rule
# title: Revoked grant
# description: A grant of the chain was revoked.
# custom:
#   remedy: ask
#   remediation: Ask who revoked it; the work has to be delegated again.
block contains "chain.revoked" if {
	some problem in input.chain_problems
	problem.code == "chain.revoked"
}
