package placet.rules.session_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.session

test_unknown_fires_without_a_session if {
	"session.unknown" in session.block with input as fixtures.replaced("/session", null)
}

test_unknown_quiet_for_an_open_session if {
	not "session.unknown" in session.block with input as fixtures.document
}

test_unknown_quiet_for_every_known_state if {
	every state in ["open", "completed", "closed", "expired", "halted"] {
		not "session.unknown" in session.block with input as fixtures.replaced("/session/state", state)
	}
}

test_unknown_fires_for_an_odd_state if {
	every state in ["", "OPEN", "paused", null, 1, true, ["open"], {"open": true}] {
		"session.unknown" in session.block with input as fixtures.replaced("/session/state", state)
	}
}

test_unknown_fires_without_a_state if {
	"session.unknown" in session.block with input as fixtures.removed("/session/state")
}

test_unknown_fires_without_the_field if {
	"session.unknown" in session.block with input as fixtures.removed("/session")
}

test_unknown_fires_without_a_document if {
	"session.unknown" in session.block with input as {}
}
