package placet.rules.session_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.session

test_closed_fires if {
	"session.closed" in session.block with input as fixtures.replaced("/session/state", "closed")
}

test_closed_quiet_for_an_open_session if {
	not "session.closed" in session.block with input as fixtures.document
}

test_closed_leaves_an_odd_state_to_unknown if {
	not "session.closed" in session.block with input as fixtures.replaced("/session/state", 1)
	"session.unknown" in session.block with input as fixtures.replaced("/session/state", 1)
}

test_closed_leaves_a_missing_session_to_unknown if {
	not "session.closed" in session.block with input as fixtures.removed("/session")
	"session.unknown" in session.block with input as fixtures.removed("/session")
}
