package placet.limits_test

import data.placet.fixtures_test as fixtures
import data.placet.limits

test_limits_keep_what_fits_exactly if {
	count(limits.blocked | limits.escalated) == 0 with input as fixtures.limited({"left": 0})
}

test_limits_block_unless_they_say_to_escalate if {
	limits.blocked == {"boundary.total"} with input as fixtures.limited({"left": -1})
	limits.escalated == {"boundary.total"} with input as fixtures.limited({"left": -1, "on_exceed": "escalate"})
	every odd in ["", "warn", null, 1] {
		limits.blocked == {"boundary.total"} with input as fixtures.limited({"left": -1, "on_exceed": odd})
	}
}

test_limits_are_not_kept_without_numbers if {
	limits.blocked == {"boundary.total"} with input as fixtures.removed("/limits/0/left")
	every odd in [null, "0", true, [], {}] {
		limits.blocked == {"boundary.total"} with input as fixtures.limited({"left": odd})
	}
}

test_limits_block_and_escalate_by_their_own_word if {
	both := fixtures.replaced("/limits", [
		{"code": "limit.budget", "on_exceed": "block", "left": -1},
		{"code": "limit.budget", "on_exceed": "escalate", "left": -1},
	])
	limits.blocked == {"limit.budget"} with input as both
	limits.escalated == {"limit.budget"} with input as both
}

test_limits_wait_for_the_longest if {
	limits.delay("limit.budget") == 9 with input as fixtures.replaced("/limits", [
		{"code": "limit.budget", "left": -1, "retry_after_seconds": 4},
		{"code": "limit.budget", "left": -1, "retry_after_seconds": 9},
		{"code": "limit.budget", "left": 0, "retry_after_seconds": 99},
	])
}

test_limits_know_no_delay_where_one_never_lifts if {
	every odd in [null, "4", 0] {
		not limits.delay("limit.budget") with input as fixtures.replaced("/limits", [
			{"code": "limit.budget", "left": -1, "retry_after_seconds": 4},
			{"code": "limit.budget", "left": -1, "retry_after_seconds": odd},
		])
	}
	not limits.delay("limit.budget") with input as fixtures.document
}
