package placet.rules.amount

# METADATA
# scope: rule
# title: Amount missing
# description: The action needs an amount and has none.
# custom:
#   remedy: change_call
#   remediation: Send the amount. If it is there, an operator has to say which argument of the tool holds it.
block contains "amount.missing" if "amount.missing" in input.action.problems

block contains "amount.missing" if {
	missing_judged
	not missing_disproven
	not missing_explained
}

# A payment, and every tool that is registered with an amount. What is not known to have none is judged.
missing_judged if not input.action.tool.amount == false

missing_judged if input.action.tool.effect == "pay"

missing_disproven if "amount" in object.keys(input.action)

# Each problem blocks by itself, and may be why there is no amount.
missing_explained if {
	is_array(input.action.problems)
	count(input.action.problems) > 0
}
