package placet.decision_test

import data.placet.decision
import data.placet.fixtures_test as fixtures

catalogue := {
	"task.within_boundary": {"message": "within"},
	"boundary.tool": {"message": "tool"},
	"payment.large": {"message": "large"},
}

boundary_reason := {
	"code": "boundary.tool",
	"effect": "block",
	"message": "tool",
	"findings": [{"code": "boundary.tool", "of": "session"}],
}

large_reason := {
	"code": "payment.large",
	"effect": "escalate",
	"message": "large",
	"findings": [{"code": "payment.large", "of": "settings", "unit": "EUR", "added": 200001, "limit": 200000}],
}

test_decision_allows_with_the_allowing_reason if {
	decision.decision == {
		"effect": "allow",
		"reasons": [{"code": "task.within_boundary", "effect": "allow", "message": "within"}],
		"obligations": [],
	} with input as fixtures.document with data.placet.catalogue as catalogue
}

test_decision_escalates_with_the_escalating_reasons_only if {
	decision.decision == {
		"effect": "escalate",
		"reasons": [large_reason],
		"obligations": [],
	} with input as fixtures.replaced("/action/amount/minor", 200001) with data.placet.catalogue as catalogue
}

test_decision_blocks_over_everything_and_lists_escalations_too if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/tool/name", "value": "payments.cancel"},
		{"op": "replace", "path": "/action/amount/minor", "value": 200001},
	])
	decision.decision == {
		"effect": "block",
		"reasons": [boundary_reason, large_reason],
		"obligations": [],
	} with input as document with data.placet.catalogue as catalogue
}

test_decision_blocks_when_no_rule_applies if {
	decision.decision == {
		"effect": "block",
		"reasons": [decision.no_applicable_rule],
		"obligations": [],
	} with input as fixtures.document with data.placet.rules as {}
}

test_decision_blocks_when_nothing_but_an_escalation_applies if {
	decision.decision == {
		"effect": "block",
		"reasons": [decision.no_applicable_rule, {"code": "a.b", "effect": "escalate", "message": ""}],
		"obligations": [],
	} with input as fixtures.document with data.placet.rules as {"a": {"escalate": {"a.b"}}}
}

test_decision_keeps_reasons_that_have_no_wording if {
	decision.decision.reasons == [{"code": "task.within_boundary", "effect": "allow", "message": ""}] with input as fixtures.document
		with data.placet.catalogue as {}
	decision.decision.reasons == [{"code": "task.within_boundary", "effect": "allow", "message": ""}] with input as fixtures.document
		with data.placet.catalogue as {"task.within_boundary": {"message": 1}}
	decision.decision.reasons == [{"code": "task.within_boundary", "effect": "allow", "message": ""}] with input as fixtures.document
		with data.placet.catalogue as null
}

full_window := json.patch(fixtures.document, [
	{"op": "replace", "path": "/session/history/pay/0/count", "value": 5},
	{"op": "add", "path": "/settings/velocity", "value": {"payments": {"on_exceed": "block"}}},
])

test_decision_says_when_to_come_back if {
	answer := decision.decision with input as full_window
	answer.effect == "block"
	answer.retry_after_seconds == 12
}

test_decision_does_not_say_when_waiting_is_not_enough if {
	document := json.patch(full_window, [{"op": "replace", "path": "/session/state", "value": "closed"}])
	answer := decision.decision with input as document
	answer.effect == "block"
	not answer.retry_after_seconds
}

test_decision_blocks_when_anything_is_missing if {
	every path in [
		"/caller", "/caller/agents", "/session", "/session/state", "/session/agent", "/boundaries/0",
		"/boundaries/0/tools", "/boundaries/0/resources", "/boundaries/0/amounts", "/chain",
		"/action", "/action/tool", "/action/tool/name", "/action/tool/known", "/action/tool/effect",
		"/action/resource", "/action/amount", "/action/amount/minor", "/action/amount/currency",
		"/action/problems",
	] {
		answer := decision.decision with input as fixtures.removed(path)
		answer.effect == "block"
	}
}

test_decision_restricts_when_anything_is_of_the_wrong_type if {
	every path in [
		"/caller", "/caller/agents", "/session", "/session/state", "/session/agent",
		"/boundaries/0", "/boundaries/0/tools", "/boundaries/0/resources",
		"/boundaries/0/amounts", "/session/history", "/session/history/pay", "/chain", "/agents",
		"/agents/agent:payer", "/agents/agent:payer/trust", "/action", "/action/tool",
		"/action/tool/name", "/action/tool/known", "/action/tool/effect", "/action/resource",
		"/action/amount", "/action/amount/minor", "/action/amount/currency", "/action/problems",
	] {
		every odd in [null, "", "odd", -1, false, {}, {"a": null}, [null]] {
			answer := decision.decision with input as fixtures.replaced(path, odd)
			answer.effect != "allow"
		}
	}
}

test_decision_restricts_when_the_settings_are_no_object if {
	every odd in [null, "", 1, false, []] {
		answer := decision.decision with input as fixtures.replaced("/settings", odd)
		answer.effect == "block"
	}
}

test_decision_says_what_can_be_done_and_what_was_found if {
	worded := {"boundary.tool": {"message": "tool", "remediation": "Use another.", "remedy": "ask", "title": "T"}}
	decision.decision.reasons == [{
		"code": "boundary.tool",
		"effect": "block",
		"message": "tool",
		"remediation": "Use another.",
		"remedy": "ask",
		"findings": [{"code": "boundary.tool", "of": "session"}],
	}] with input as fixtures.replaced("/action/tool/name", "payments.cancel") with data.placet.catalogue as worded with data.placet.defaults as fixtures.defaults
}

test_decision_gives_a_finding_to_the_reason_of_its_code if {
	rules := {"a": {"block": {"a.b", "a.c"}, "findings": {{"code": "a.c", "added": 1}, {"code": "a.d", "added": 2}}}}
	decision.decision.reasons == [
		{"code": "a.b", "effect": "block", "message": ""},
		{"code": "a.c", "effect": "block", "message": "", "findings": [{"code": "a.c", "added": 1}]},
	] with input as fixtures.document with data.placet.rules as rules
}
