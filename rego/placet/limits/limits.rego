# METADATA
# title: Limits that an action meets
# description: >-
#   What has no room for the action, by the limit's code. A limit is kept only if it is proven;
#   what should happen otherwise is to block, unless the limit positively says to escalate.
package placet.limits

blocked contains limit.code if {
	some limit in exceeding
	not escalates(limit)
}

escalated contains limit.code if {
	some limit in exceeding
	escalates(limit)
}

# Most actions keep all that they meet; then nothing is collected.
exceeding := [] if {
	count(kept) == count(input.limits)
} else := [limit | some i, limit in input.limits; not i in kept]

# `left` is what a limit has left after this action, and absent where that is not known.
kept := [i |
	some i, limit in input.limits
	is_number(limit.left)
	limit.left >= 0
]

escalates(limit) if limit.on_exceed == "escalate"

# How long until every exceeded limit of this code has room again; undefined where waiting does not help.
delay(code) := max({limit.retry_after_seconds | some limit in exceeded(code)}) if {
	every limit in exceeded(code) {
		is_number(limit.retry_after_seconds)
		limit.retry_after_seconds > 0
	}
}

exceeded(code) := [limit |
	some limit in exceeding
	limit.code == code
	not escalates(limit)
]
