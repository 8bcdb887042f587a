package placet.rules.counterparty_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.counterparty

test_mismatch_fires_for_another_counterparty_than_the_records if {
	"counterparty.mismatch" in counterparty.block with input as fixtures.replaced("/entities/vendor/matched", false)
}

test_mismatch_quiet_for_the_records_counterparty if {
	not "counterparty.mismatch" in counterparty.block with input as fixtures.document
}

test_mismatch_fires_when_the_match_is_missing_or_odd if {
	"counterparty.mismatch" in counterparty.block with input as fixtures.removed("/entities/vendor/matched")
	every odd in [null, 1, "true", {}] {
		"counterparty.mismatch" in counterparty.block with input as fixtures.replaced("/entities/vendor/matched", odd)
	}
}

test_mismatch_fires_without_entities if {
	"counterparty.mismatch" in counterparty.block with input as fixtures.removed("/entities")
	"counterparty.mismatch" in counterparty.block with input as fixtures.removed("/entities/vendor")
}

test_mismatch_fires_when_a_known_tools_list_is_missing_or_odd if {
	every odd in [null, "vendor", 1] {
		"counterparty.mismatch" in counterparty.block with input as fixtures.replaced("/action/tool/must_match", odd)
	}
	"counterparty.mismatch" in counterparty.block with input as fixtures.removed("/action/tool/must_match")
}

test_mismatch_quiet_for_a_tool_without_such_entities if {
	not "counterparty.mismatch" in counterparty.block with input as json.remove(fixtures.listed("/action/tool/must_match", []), ["/entities"])
}

test_mismatch_is_moot_for_a_strangers_session if {
	not "counterparty.mismatch" in counterparty.block with input as json.remove(fixtures.without_session, ["/entities"])
}

test_mismatch_fires_when_a_name_was_lost if {
	every names in [[], ["vendor"]] {
		"counterparty.mismatch" in counterparty.block with input as fixtures.shortened("/action/tool/must_match", names)
	}
	"counterparty.mismatch" in counterparty.block with input as fixtures.removed("/counts/must_match")
	"counterparty.mismatch" in counterparty.block with input as fixtures.replaced("/counts/must_match", 0)
}

test_mismatch_is_moot_for_an_unknown_tool if {
	not "counterparty.mismatch" in counterparty.block with input as fixtures.replaced("/action/tool", {"name": "x", "known": false})
}
