package placet.rules.review

# METADATA
# scope: rule
# title: Prerequisite rejected
# description: What has to come before this action was blocked or rejected.
# custom:
#   remedy: first
#   remediation: See why it was, mend that, and ask for it again first.
block contains "review.prerequisite_rejected" if {
	prerequisite_rejected_judged
	not prerequisite_rejected_disproven
}

prerequisite_rejected_judged if not input.action.tool.prerequisites == 0

prerequisite_rejected_disproven if {
	count(input.action.prerequisites) == input.action.tool.prerequisites
	every prerequisite in input.action.prerequisites {
		prerequisite.latest in {"allow", "escalate", "absent", "consumed"}
	}
}

# Where to look: the tools that have to come first.
findings contains {"code": "review.prerequisite_rejected", "at": prerequisite.tool} if {
	"review.prerequisite_rejected" in block
	some prerequisite in input.action.prerequisites
	prerequisite.latest == "block"
}
