package placet.rules.amount

# METADATA
# scope: rule
# title: Invalid amount
# description: The amount could not be read as a number.
# custom:
#   remedy: change_call
#   remediation: Send the amount as a decimal number.
block contains "amount.invalid" if "amount.invalid" in input.action.problems

block contains "amount.invalid" if {
	"amount" in object.keys(input.action)
	not invalid_disproven
}

invalid_disproven if {
	amount := input.action.amount
	is_number(amount.minor)
	amount.minor == floor(amount.minor)
	amount.minor >= 0
	is_string(amount.currency)
	amount.currency != ""
}
