package placet.rules.amount

# METADATA
# scope: rule
# title: Invalid currency
# description: The currency is missing or is not an ISO 4217 code.
# custom:
#   remedy: change_call
#   remediation: Send the currency's three-letter code.
block contains "amount.currency_invalid" if "amount.currency_invalid" in input.action.problems
