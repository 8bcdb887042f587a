package placet.rules.review

# METADATA
# scope: rule
# title: Prerequisite pending
# description: What has to come before this action waits for a person.
# custom:
#   remedy: wait
#   remediation: Wait until it is resolved, then ask again.
block contains "review.prerequisite_pending" if {
	prerequisite_pending_judged
	not prerequisite_pending_disproven
}

# Whatever names prerequisites, and whatever is not known to name none.
prerequisite_pending_judged if not input.action.tool.prerequisites == 0

prerequisite_pending_disproven if {
	count(input.action.prerequisites) == input.action.tool.prerequisites
	every prerequisite in input.action.prerequisites {
		prerequisite.latest in {"allow", "block", "absent", "consumed"}
	}
}

# Where to look: the tools that have to come first.
findings contains {"code": "review.prerequisite_pending", "at": prerequisite.tool} if {
	"review.prerequisite_pending" in block
	some prerequisite in input.action.prerequisites
	prerequisite.latest == "escalate"
}
