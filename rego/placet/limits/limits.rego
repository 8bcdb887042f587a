# METADATA
# title: Limits that an action meets
# description: >-
#   What has no room for the action, by the limit's code. A limit is kept only if it is proven;
#   what should happen otherwise is to block, unless the limit positively says to escalate.
package placet.limits

blocked contains limit.code if {
	some limit in input.limits
	not kept(limit)
	not escalates(limit)
}

escalated contains limit.code if {
	some limit in input.limits
	not kept(limit)
	escalates(limit)
}

kept(limit) if {
	every name in {"used", "add", "max"} {
		is_number(limit[name])
		limit[name] >= 0
	}
	limit.used + limit.add <= limit.max
}

escalates(limit) if limit.on_exceed == "escalate"

# How long until every exceeded limit of this code has room again; undefined where waiting does not help.
delay(code) := max({limit.retry_after_seconds | some limit in exceeded(code)}) if {
	every limit in exceeded(code) {
		is_number(limit.retry_after_seconds)
		limit.retry_after_seconds > 0
	}
}

exceeded(code) := [limit |
	some limit in input.limits
	limit.code == code
	not kept(limit)
	not escalates(limit)
]
