package placet.rules.velocity_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.velocity

test_payments_fires_when_the_window_is_full if {
	"velocity.payments" in velocity.escalate with input as fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]) with data.placet.defaults as fixtures.defaults
	not "velocity.payments" in velocity.block with input as fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]) with data.placet.defaults as fixtures.defaults
}

test_payments_blocks_where_the_settings_say_so if {
	"velocity.payments" in velocity.block with input as object.union(fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]), {"settings": {"velocity": {"payments": {"on_exceed": "block"}}}}) with data.placet.defaults as fixtures.defaults
	not "velocity.payments" in velocity.escalate with input as object.union(fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]), {"settings": {"velocity": {"payments": {"on_exceed": "block"}}}}) with data.placet.defaults as fixtures.defaults
}

test_payments_blocks_for_an_odd_consequence if {
	every odd in ["", "warn", null, 1] {
		document := json.patch(fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]), [{
			"op": "add",
			"path": "/settings/velocity",
			"value": {"payments": {"on_exceed": odd}},
		}])
		"velocity.payments" in velocity.block with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_payments_quiet_below_the_maximum if {
	not "velocity.payments" in velocity.escalate with input as fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 4}]) with data.placet.defaults as fixtures.defaults
	not "velocity.payments" in velocity.block with input as fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 4}]) with data.placet.defaults as fixtures.defaults
}

test_payments_quiet_for_another_effect if {
	not "velocity.payments" in velocity.escalate with input as object.union(fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]), {"action": {"tool": {"effect": "write"}}}) with data.placet.defaults as fixtures.defaults
}

test_payments_counts_a_bucket_that_is_partly_in_the_window if {
	"velocity.payments" in velocity.escalate with input as fixtures.listed("/session/history/pay", [{"start": 1795514339, "width": 2, "count": 5}]) with data.placet.defaults as fixtures.defaults
}

test_payments_forgets_a_bucket_that_has_left_the_window if {
	not "velocity.payments" in velocity.escalate with input as fixtures.listed("/session/history/pay", [{"start": 1795514338, "width": 2, "count": 5}]) with data.placet.defaults as fixtures.defaults
}

test_payments_counts_a_bucket_of_the_future if {
	"velocity.payments" in velocity.escalate with input as fixtures.listed("/session/history/pay", [{"start": 1795514500, "width": 2, "count": 5}]) with data.placet.defaults as fixtures.defaults
}

test_payments_fires_without_history if {
	"velocity.payments" in velocity.escalate with input as fixtures.removed("/session/history/pay") with data.placet.defaults as fixtures.defaults
	"velocity.payments" in velocity.escalate with input as fixtures.removed("/session/history") with data.placet.defaults as fixtures.defaults
}

test_payments_fires_when_the_window_reaches_further_back_than_the_history if {
	known := fixtures.replaced("/session/history/pay_since", 1795514340)
	not "velocity.payments" in velocity.escalate with input as known with data.placet.defaults as fixtures.defaults
	unknown := fixtures.replaced("/session/history/pay_since", 1795514341)
	"velocity.payments" in velocity.escalate with input as unknown with data.placet.defaults as fixtures.defaults
	every odd in [null, "1795514340", {}] {
		document := fixtures.replaced("/session/history/pay_since", odd)
		"velocity.payments" in velocity.escalate with input as document with data.placet.defaults as fixtures.defaults
	}
	missing := fixtures.removed("/session/history/pay_since")
	"velocity.payments" in velocity.escalate with input as missing with data.placet.defaults as fixtures.defaults
}

test_payments_names_no_delay_for_a_window_that_is_not_known if {
	document := object.union(
		fixtures.replaced("/session/history", {
			"pay": [{"start": 1795514350, "width": 2, "count": 5}],
			"pay_since": 1795514341,
		}),
		{"settings": {"velocity": {"payments": {"on_exceed": "block"}}}},
	)
	"velocity.payments" in velocity.block with input as document with data.placet.defaults as fixtures.defaults
	count(velocity.retry_after_seconds) == 0 with input as document with data.placet.defaults as fixtures.defaults
}

test_payments_is_moot_without_a_session if {
	document := fixtures.replaced("/session", null)
	not "velocity.payments" in velocity.escalate with input as document with data.placet.defaults as fixtures.defaults
	not "velocity.payments" in velocity.block with input as document with data.placet.defaults as null
	not velocity.payments_within with input as document with data.placet.defaults as fixtures.defaults
}

test_payments_fires_for_history_of_the_wrong_type if {
	every odd in [null, {}, "", [{}], [1], [{"start": 1, "width": 2, "count": "0"}], [{"start": 1, "width": -2, "count": 0}]] {
		"velocity.payments" in velocity.escalate with input as fixtures.replaced("/session/history/pay", odd)
			with data.placet.defaults as fixtures.defaults
	}
}

test_payments_fires_without_the_time if {
	"velocity.payments" in velocity.escalate with input as fixtures.removed("/now_unix") with data.placet.defaults as fixtures.defaults
	"velocity.payments" in velocity.escalate with input as fixtures.replaced("/now_unix", "1795514400") with data.placet.defaults as fixtures.defaults
}

test_payments_fires_for_settings_of_the_wrong_type if {
	every odd in [{"max": "5"}, {"max": null}, {"window_seconds": 0}, {"window_seconds": "60"}, {"max": 0}] {
		"velocity.payments" in velocity.escalate with input as fixtures.replaced("/settings/velocity", {"payments": odd})
			with data.placet.defaults as fixtures.defaults
	}
}

test_payments_blocks_without_settings if {
	"velocity.payments" in velocity.block with input as fixtures.removed("/settings") with data.placet.defaults as fixtures.defaults
}

test_payments_blocks_without_defaults if {
	"velocity.payments" in velocity.block with input as fixtures.document with data.placet.defaults as null
}

test_payments_says_when_to_come_back if {
	# The second of two buckets must leave too: it ends at …354, and the window is 60 s.
	buckets := [
		{"start": 1795514340, "width": 2, "count": 1},
		{"start": 1795514352, "width": 2, "count": 6},
		{"start": 1795514398, "width": 2, "count": 4},
	]
	settings := {"velocity": {"payments": {"on_exceed": "block"}}}
	document := object.union(fixtures.listed("/session/history/pay", buckets), {"settings": settings})
	velocity.retry_after_seconds == {{"code": "velocity.payments", "seconds": 14}} with input as document
		with data.placet.defaults as fixtures.defaults
}

test_payments_says_nothing_when_waiting_never_helps if {
	document := json.patch(object.union(fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}]), {"settings": {"velocity": {"payments": {"on_exceed": "block"}}}}), [{"op": "add", "path": "/settings/velocity/payments/max", "value": 0}])
	count(velocity.retry_after_seconds) == 0 with input as document with data.placet.defaults as fixtures.defaults
}

test_payments_says_nothing_when_it_escalates if {
	document := fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}])
	count(velocity.retry_after_seconds) == 0 with input as document with data.placet.defaults as fixtures.defaults
}

test_payments_says_when_to_come_back_for_buckets_that_overlap if {
	# The wide bucket began first and ends last.
	buckets := [
		{"start": 1795514340, "width": 60, "count": 3},
		{"start": 1795514350, "width": 2, "count": 3},
	]
	document := json.patch(fixtures.listed("/session/history/pay", buckets), [{
		"op": "add",
		"path": "/settings/velocity",
		"value": {"payments": {"on_exceed": "block", "max": 3}},
	}])
	velocity.retry_after_seconds == {{"code": "velocity.payments", "seconds": 60}} with input as document
		with data.placet.defaults as fixtures.defaults
}

# Full since the bucket that ends at …404; aligned to a minute …460, to an hour …518000.
full(window, room) := json.patch(fixtures.document, [
	{"op": "replace", "path": "/session/history/pay", "value": [{"start": 1795514402, "width": 2, "count": 3}]},
	{"op": "replace", "path": "/session/history/pay_room", "value": room},
	{"op": "replace", "path": "/now_unix", "value": 1795514404},
	{
		"op": "add",
		"path": "/settings/velocity",
		"value": {"payments": {"on_exceed": "block", "max": 3, "window_seconds": window}},
	},
])

test_payments_knows_that_history_grows_coarser if {
	every window, seconds in {60: 60, 61: 117, 3600: 3656, 3601: 7197} {
		every room in [0, 5, null, "255"] {
			velocity.retry_after_seconds == {{"code": "velocity.payments", "seconds": seconds}} with input as full(window, room)
				with data.placet.defaults as fixtures.defaults
		}
	}
}

test_payments_is_exact_while_history_has_room if {
	every window in [60, 61, 3600, 3601] {
		velocity.retry_after_seconds == {{"code": "velocity.payments", "seconds": window}} with input as full(window, 6)
			with data.placet.defaults as fixtures.defaults
	}
}

test_payments_fires_when_a_payment_was_lost if {
	every buckets in [[], [{"start": 1795514350, "width": 2, "count": 1}]] {
		document := fixtures.shortened("/session/history/pay", buckets)
		"velocity.payments" in velocity.escalate with input as document with data.placet.defaults as fixtures.defaults
	}
	uncounted := fixtures.removed("/session/history/pay_count")
	"velocity.payments" in velocity.escalate with input as uncounted with data.placet.defaults as fixtures.defaults
}

test_payments_says_what_it_was_measured_against if {
	document := fixtures.listed("/session/history/pay", [{"start": 1795514350, "width": 2, "count": 5}])
	velocity.findings == {{
		"code": "velocity.payments",
		"of": "session",
		"unit": "actions",
		"used": 5,
		"added": 1,
		"limit": 5,
		"window_seconds": 60,
	}} with input as document with data.placet.defaults as fixtures.defaults
}
