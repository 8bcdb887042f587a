package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_amount_fires_above_the_limit if {
	"boundary.amount" in boundary.block with input as fixtures.replaced("/action/amount/minor", 500001)
}

test_amount_quiet_at_the_limit if {
	not "boundary.amount" in boundary.block with input as fixtures.replaced("/action/amount/minor", 500000)
}

test_amount_quiet_without_an_amount if {
	not "boundary.amount" in boundary.block with input as json.remove(fixtures.replaced("/action/tool/effect", "read"), ["/action/amount"])
}

test_amount_fires_for_an_amount_of_any_effect if {
	"boundary.amount" in boundary.block with input as object.union(fixtures.replaced("/action/tool/effect", "read"), {"action": {"amount": {"minor": 500001}}})
}

test_amount_fires_for_a_currency_without_a_limit if {
	"boundary.amount" in boundary.block with input as fixtures.replaced("/action/amount/currency", "USD")
}

test_amount_fires_without_limits if {
	"boundary.amount" in boundary.block with input as fixtures.removed("/boundaries/0/amounts")
}

test_amount_fires_for_a_limit_of_the_wrong_type if {
	every odd in [null, "500000", true, {}, [500000]] {
		"boundary.amount" in boundary.block with input as fixtures.replaced("/boundaries/0/amounts/EUR/per_action_minor", odd)
	}
}

test_amount_proves_no_amount_of_the_wrong_type if {
	every odd in [null, "1", true, {}, -1] {
		not boundary.amount_proven with input as fixtures.replaced("/action/amount/minor", odd)
	}
}

test_amount_is_moot_without_a_session if {
	not "boundary.amount" in boundary.block with input as fixtures.without_session
}

test_amount_is_moot_when_the_amount_blocks if {
	not "boundary.amount" in boundary.block with input as fixtures.removed("/action/amount")
	boundary.amount_judged with input as fixtures.removed("/action/amount")
	not boundary.amount_proven with input as fixtures.removed("/action/amount")
}

test_amount_fires_unless_every_boundary_permits_it if {
	narrower := {"of": "template", "amounts": {"EUR": {"per_action_minor": 100}}}
	"boundary.amount" in boundary.block with input as fixtures.replaced("/boundaries/-", narrower)
}

test_amount_quiet_when_every_boundary_permits_it if {
	wider := {"of": "template", "amounts": {"EUR": {"per_action_minor": 900000}}}
	not "boundary.amount" in boundary.block with input as fixtures.replaced("/boundaries/-", wider)
}

test_amount_fires_without_the_sessions_own_boundary if {
	every odd in [[], null, {}, [{"of": "template", "amounts": {"EUR": {"per_action_minor": 900000}}}]] {
		"boundary.amount" in boundary.block with input as fixtures.replaced("/boundaries", odd)
	}
}

test_amount_says_what_it_was_measured_against if {
	expected := {
		"code": "boundary.amount",
		"of": "session",
		"unit": "EUR",
		"added": 500001,
		"limit": 500000,
	}
	boundary.findings == {expected} with input as fixtures.replaced("/action/amount/minor", 500001)
}

test_amount_says_so_where_there_is_no_limit if {
	boundary.findings == {{
		"code": "boundary.amount",
		"of": "session",
		"unit": "USD",
		"added": 120000,
	}} with input as fixtures.replaced("/action/amount/currency", "USD")
}
