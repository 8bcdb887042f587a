package placet.rules.counterparty_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.counterparty

test_not_active_fires_for_a_blocked_counterparty if {
	"counterparty.not_active" in counterparty.block with input as fixtures.replaced("/action/counterparty/status", "blocked")
}

test_not_active_quiet_for_an_active_counterparty if {
	not "counterparty.not_active" in counterparty.block with input as fixtures.document
}

test_not_active_fires_for_a_counterparty_that_is_not_known if {
	"counterparty.not_active" in counterparty.block with input as fixtures.replaced("/action/counterparty", {"entity": "vendor", "known": false})
}

test_not_active_fires_for_a_status_that_is_missing_or_odd if {
	"counterparty.not_active" in counterparty.block with input as fixtures.removed("/action/counterparty/status")
	every odd in [null, true, "Active", "active ", ["active"], {"active": true}] {
		"counterparty.not_active" in counterparty.block with input as fixtures.replaced("/action/counterparty/status", odd)
	}
}

test_not_active_fires_without_the_counterparty if {
	"counterparty.not_active" in counterparty.block with input as fixtures.removed("/action/counterparty")
}

test_not_active_fires_when_a_known_tools_roles_are_missing_or_odd if {
	without := fixtures.removed("/action/counterparty")
	every odd in [null, "counterparty", 1, {}, ["record"], {"record": false}, {"counterparty": null}] {
		"counterparty.not_active" in counterparty.block with input as json.patch(without, [{"op": "add", "path": "/action/tool/roles", "value": odd}])
	}
	"counterparty.not_active" in counterparty.block with input as json.remove(without, ["/action/tool/roles"])
}

test_not_active_quiet_for_a_tool_that_deals_with_nobody if {
	not "counterparty.not_active" in counterparty.block with input as json.remove(fixtures.replaced("/action/tool/roles/counterparty", false), ["/action/counterparty"])
}

test_not_active_is_moot_for_a_strangers_session if {
	not "counterparty.not_active" in counterparty.block with input as json.remove(fixtures.without_session, ["/action/counterparty"])
}

test_not_active_is_moot_for_an_unknown_tool if {
	not "counterparty.not_active" in counterparty.block with input as fixtures.replaced("/action/tool", {"name": "x", "known": false})
}
