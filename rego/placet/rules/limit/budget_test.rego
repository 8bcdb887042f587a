package placet.rules.limit_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.limit

test_budget_fires_above_the_limit if {
	"limit.budget" in limit.block with input as fixtures.limited({"code": "limit.budget", "left": -1})
}

test_budget_quiet_at_the_limit if {
	document := fixtures.limited({"code": "limit.budget", "left": 0})
	not "limit.budget" in limit.block with input as document
	not "limit.budget" in limit.escalate with input as document
}

test_budget_quiet_without_such_a_limit if {
	not "limit.budget" in limit.block with input as fixtures.replaced("/limits", [])
}

test_budget_fires_for_odd_numbers if {
	every odd in [null, "1", -1, {}] {
		"limit.budget" in limit.block with input as fixtures.limited({"code": "limit.budget", "left": odd})
	}
}

test_budget_escalates_where_the_limit_says_so if {
	document := fixtures.limited({"code": "limit.budget", "left": -1, "on_exceed": "escalate"})
	"limit.budget" in limit.escalate with input as document
	not "limit.budget" in limit.block with input as document
}

test_budget_says_when_to_come_back if {
	document := fixtures.limited({"code": "limit.budget", "left": -1, "retry_after_seconds": 7})
	{"code": "limit.budget", "seconds": 7} in limit.retry_after_seconds with input as document
}

test_budget_says_nothing_where_waiting_never_helps if {
	count(limit.retry_after_seconds) == 0 with input as fixtures.limited({"code": "limit.budget", "left": -1})
}
