package placet.rules.amount

# METADATA
# scope: rule
# title: No money at all
# description: The amount is zero.
# custom:
#   remedy: change_call
#   remediation: Send an amount above zero, or have the tool registered as one that takes zero (allow_zero).
block contains "amount.zero" if "amount.zero" in input.action.problems
