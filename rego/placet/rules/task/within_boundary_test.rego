package placet.rules.task_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.task

test_within_boundary_allows if {
	"task.within_boundary" in task.allow with input as fixtures.document
}

test_within_boundary_allows_without_an_amount if {
	"task.within_boundary" in task.allow with input as json.remove(fixtures.replaced("/action/tool", {"name": "x", "known": true, "effect": "read"}), ["/action/amount"])
}

test_within_boundary_quiet_unless_the_session_is_open if {
	every state in ["completed", "closed", "expired", "halted", "", null] {
		not "task.within_boundary" in task.allow with input as fixtures.replaced("/session/state", state)
	}
}

test_within_boundary_quiet_outside_the_boundary if {
	not "task.within_boundary" in task.allow with input as fixtures.replaced("/action/tool/name", "x")
	not "task.within_boundary" in task.allow with input as fixtures.replaced("/action/resource/id", "x")
	not "task.within_boundary" in task.allow with input as fixtures.replaced("/action/amount/minor", 500001)
}

test_within_boundary_quiet_for_a_payment_without_an_amount if {
	not "task.within_boundary" in task.allow with input as fixtures.removed("/action/amount")
}

test_within_boundary_quiet_with_a_problem if {
	not "task.within_boundary" in task.allow with input as fixtures.replaced("/action/problems", ["x"])
}

test_within_boundary_quiet_for_fields_of_the_wrong_type if {
	every path in ["/session", "/boundaries/0", "/action", "/action/tool", "/action/resource", "/action/amount", "/action/problems"] {
		every odd in [null, "", 1, true, {}] {
			not "task.within_boundary" in task.allow with input as fixtures.replaced(path, odd)
		}
	}
}

test_within_boundary_quiet_without_fields if {
	every path in ["/session", "/session/state", "/boundaries/0", "/action", "/action/tool", "/action/tool/known", "/action/resource", "/action/problems"] {
		not "task.within_boundary" in task.allow with input as fixtures.removed(path)
	}
}

test_within_boundary_quiet_without_a_document if {
	not "task.within_boundary" in task.allow with input as {}
}
