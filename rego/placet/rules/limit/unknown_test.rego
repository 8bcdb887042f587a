package placet.rules.limit_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.limit

test_unknown_quiet_for_limits_that_rules_judge if {
	not "limit.unknown" in limit.block with input as fixtures.document
	not "limit.unknown" in limit.block with input as fixtures.listed("/limits", [])
}

test_unknown_fires_for_a_limit_that_no_rule_judges if {
	every odd in ["boundary.other", "", null, 1] {
		"limit.unknown" in limit.block with input as fixtures.limited({"code": odd})
	}
}

test_unknown_fires_without_limits if {
	"limit.unknown" in limit.block with input as fixtures.removed("/limits")
}

test_unknown_fires_for_limits_of_the_wrong_type if {
	every odd in [null, {}, "", [1], [{}]] {
		"limit.unknown" in limit.block with input as fixtures.replaced("/limits", odd)
	}
}

test_unknown_fires_when_a_limit_was_lost if {
	every limits in [[], fixtures.document.limits] {
		"limit.unknown" in limit.block with input as fixtures.shortened("/limits", limits)
	}
	"limit.unknown" in limit.block with input as fixtures.removed("/counts/limits")
}
