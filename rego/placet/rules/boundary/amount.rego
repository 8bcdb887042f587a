package placet.rules.boundary

# METADATA
# scope: rule
# title: Amount outside the boundary
# description: The amount is more than the task's boundary permits for one action.
# custom:
#   remedy: ask
#   remediation: Ask for an amount within the boundary, or have the issuer open a session with a wider one.
block contains "boundary.amount" if {
	amount_judged
	not amount_proven
	not amount_moot
}

# Every action that has an amount; a payment always.
amount_judged if "amount" in object.keys(input.action)

amount_judged if input.action.tool.effect == "pay"

amount_proven if {
	input.boundaries[0].of == "session"
	is_number(input.action.amount.minor)
	input.action.amount.minor >= 0

	# A currency without a limit is permitted nothing.
	every boundary in input.boundaries { amount_within(boundary) }
}

amount_within(boundary) if input.action.amount.minor <= amount_limits(boundary).limit

amount_limits(boundary) := {"limit": limit} if {
	limit := boundary.amounts[input.action.amount.currency].per_action_minor
	is_number(limit)
} else := {}

# Blocked already, by the reason that explains it.
amount_moot if "session.unknown" in data.placet.rules.session.block

amount_moot if count(data.placet.rules.amount.block) > 0

# Where to look, and what was measured there.
findings contains object.union_n([amount_measured, amount_limits(boundary), object.filter(boundary, {"of", "at"})]) if {
	"boundary.amount" in block
	some boundary in input.boundaries
	is_object(boundary)
	not amount_within(boundary)
}

amount_measured := {
	"code": "boundary.amount",
	"unit": input.action.amount.currency,
	"added": input.action.amount.minor,
}
