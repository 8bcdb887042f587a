package placet.rules.chain

# METADATA
# scope: rule
# title: Invalid chain
# description: A grant of the chain is missing, was not issued here, or does not belong where it stands.
# custom:
#   remedy: ask
#   remediation: Send the grants as they were given, from the session's own agent's to your own.
block contains "chain.invalid" if {
	some problem in input.chain_problems
	problem.code == "chain.invalid"
}
