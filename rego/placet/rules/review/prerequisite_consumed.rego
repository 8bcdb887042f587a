package placet.rules.review

# METADATA
# scope: rule
# title: Prerequisite consumed
# description: What has to come before this action was allowed, and carries another action already.
# custom:
#   remedy: first
#   remediation: Have it allowed once more, for this action.
block contains "review.prerequisite_consumed" if {
	prerequisite_consumed_judged
	not prerequisite_consumed_disproven
}

prerequisite_consumed_judged if not input.action.tool.prerequisites == 0

prerequisite_consumed_disproven if {
	count(input.action.prerequisites) == input.action.tool.prerequisites
	every prerequisite in input.action.prerequisites {
		prerequisite.latest in {"allow", "block", "escalate", "absent"}
	}
}

# Where to look: the tools that have to come first.
findings contains {"code": "review.prerequisite_consumed", "at": prerequisite.tool} if {
	"review.prerequisite_consumed" in block
	some prerequisite in input.action.prerequisites
	prerequisite.latest == "consumed"
}
