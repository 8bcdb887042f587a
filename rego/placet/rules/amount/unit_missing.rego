package placet.rules.amount

# METADATA
# scope: rule
# title: Amount without a unit
# description: The registry does not say whether the amount is in major or minor units.
# custom:
#   remedy: ask
#   remediation: Have an operator state the unit of the tool's amount.
block contains "amount.unit_missing" if "amount.unit_missing" in input.action.problems
