# Every other limit is measured by the server, and stands in `input.limits`. This one is measured here, by the
# arithmetic of pdp/authority/counters.py: without settings of its own a tenant has the window and the maximum of the
# bundle's defaults, which the server does not know.
package placet.rules.velocity

import data.placet.settings

# METADATA
# scope: rule
# title: Too many payments
# description: The session has made as many payments as its window permits.
# custom:
#   remedy: wait
#   remediation: Wait until payments have left the window, or have a reviewer approve this one.
block contains "velocity.payments" if {
	input.action.tool.effect == "pay"
	not payments_within
	not payments_moot
	not payments_escalate
}

escalate contains "velocity.payments" if {
	input.action.tool.effect == "pay"
	not payments_within
	not payments_moot
	payments_escalate
}

# METADATA
# scope: rule
# description: >-
#   Never early: a bucket counts until all of it has left the window. Late by a bucket at most.
retry_after_seconds contains {"code": "velocity.payments", "seconds": seconds} if {
	input.action.tool.effect == "pay"
	not payments_within
	not payments_moot
	not payments_escalate
	payments_readable
	payments_known
	now := input.now_unix
	is_number(now)
	seconds := min({delay |
		some i, [ends, _] in payments_by_end
		delay := (ends + payments_limit.window_seconds) - now
		delay > 0
		sum(array.slice(payments_counts, i + 1, count(payments_counts))) < payments_limit.max
	})
}

# Buckets of different widths overlap, so their order is by when they end.
payments_by_end := sort([[ends, bucket.count] |
	some bucket in input.session.history.pay
	ends := payments_aligned(bucket.start + bucket.width, payments_final_width)
])

payments_aligned(ends, width) := ends + ((width - (ends % width)) % width)

# History may grow coarser with age (pdp/authority/counters.py): how wide buckets can be once they have left for good.
default payments_final_width := 3600

payments_final_width := 2 if {
	payments_limit.window_seconds <= 60
} else := 2 if {
	is_number(input.session.history.pay_room)
	payments_coming <= input.session.history.pay_room
} else := 60 if {
	payments_limit.window_seconds <= 3600
}

# How many buckets there may come to be until then, in less than two windows. None grows while there is room.
payments_coming := min({(payments_limit.window_seconds / 2) + 2, 2 * payments_limit.max})

payments_counts := [number | some [_, number] in payments_by_end]

payments_limit := settings.effective.velocity.payments

payments_escalate if payments_limit.on_exceed == "escalate"

payments_within if {
	payments_readable
	is_number(input.now_unix)
	payments_known
	payments_ending_after(input.now_unix - payments_limit.window_seconds) < payments_limit.max
}

# What ended before `pay_since` may be left out of the history.
payments_known if {
	is_number(input.session.history.pay_since)
	input.now_unix - payments_limit.window_seconds >= input.session.history.pay_since
}

# The payments of buckets any part of which lies after the instant.
payments_ending_after(instant) := sum([bucket.count |
	some bucket in input.session.history.pay
	bucket.start + bucket.width > instant
])

payments_readable if {
	is_number(payments_limit.max)
	is_number(payments_limit.window_seconds)
	payments_limit.window_seconds > 0
	is_array(input.session.history.pay)
	count(input.session.history.pay) == input.session.history.pay_count
	every bucket in input.session.history.pay {
		is_number(bucket.start)
		is_number(bucket.width)
		is_number(bucket.count)
		bucket.width >= 0
		bucket.count >= 0
	}
}

# Blocked already, by the reason that explains it.
payments_moot if "session.unknown" in data.placet.rules.session.block

findings contains {
	"code": "velocity.payments",
	"of": "session",
	"unit": "actions",
	"used": payments_ending_after(input.now_unix - payments_limit.window_seconds),
	"added": 1,
	"limit": payments_limit.max,
	"window_seconds": payments_limit.window_seconds,
} if {
	"velocity.payments" in (block | escalate)
	payments_readable
	is_number(input.now_unix)
	payments_known
}
