package placet.rules.amount

# METADATA
# scope: rule
# title: Amount missing
# description: The action needs an amount and has none.
# custom:
#   remediation: Send the amount; have an operator say which argument of the tool holds it.
block contains "amount.missing" if "amount.missing" in input.action.problems

block contains "amount.missing" if {
	input.action.tool.effect == "pay"
	not missing_disproven
	not missing_explained
}

missing_disproven if "amount" in object.keys(input.action)

# Each problem blocks by itself, and may be why there is no amount.
missing_explained if {
	is_array(input.action.problems)
	count(input.action.problems) > 0
}
