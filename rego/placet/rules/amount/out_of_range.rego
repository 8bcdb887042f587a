package placet.rules.amount

# METADATA
# scope: rule
# title: Amount out of range
# description: The amount is negative or absurdly large.
# custom:
#   remedy: change_call
#   remediation: Send an amount that is not negative and not absurd.
block contains "amount.out_of_range" if "amount.out_of_range" in input.action.problems
