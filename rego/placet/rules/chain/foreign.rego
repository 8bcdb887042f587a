package placet.rules.chain

# METADATA
# scope: rule
# title: Grant of another session
# description: A grant of the chain is for another session or another tenant.
# custom:
#   remedy: ask
#   remediation: Use the grants of this session.
block contains "chain.foreign" if {
	some problem in input.chain_problems
	problem.code == "chain.foreign"
}
