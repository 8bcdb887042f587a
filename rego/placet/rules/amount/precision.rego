package placet.rules.amount

# METADATA
# scope: rule
# title: Too many decimals
# description: The amount has more decimals than its currency.
# custom:
#   remedy: change_call
#   remediation: Send an amount that the currency can express.
block contains "amount.precision" if "amount.precision" in input.action.problems
