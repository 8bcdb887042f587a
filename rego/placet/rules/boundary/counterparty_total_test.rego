package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_counterparty_total_fires_above_the_limit if {
	"boundary.counterparty_total" in boundary.block with input as fixtures.limited({"code": "boundary.counterparty_total", "left": -1})
}

test_counterparty_total_quiet_at_the_limit if {
	document := fixtures.limited({"code": "boundary.counterparty_total", "left": 0})
	not "boundary.counterparty_total" in boundary.block with input as document
	not "boundary.counterparty_total" in boundary.escalate with input as document
}

test_counterparty_total_quiet_without_such_a_limit if {
	not "boundary.counterparty_total" in boundary.block with input as fixtures.replaced("/limits", [])
}

test_counterparty_total_fires_for_odd_numbers if {
	every odd in [null, "1", -1, {}] {
		"boundary.counterparty_total" in boundary.block with input as fixtures.limited({"code": "boundary.counterparty_total", "left": odd})
	}
}

test_counterparty_total_escalates_where_the_limit_says_so if {
	document := fixtures.limited({"code": "boundary.counterparty_total", "left": -1, "on_exceed": "escalate"})
	"boundary.counterparty_total" in boundary.escalate with input as document
	not "boundary.counterparty_total" in boundary.block with input as document
}
