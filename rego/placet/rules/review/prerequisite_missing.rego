package placet.rules.review

# METADATA
# scope: rule
# title: Prerequisite missing
# description: What has to come before this action was not allowed.
# custom:
#   remedy: first
#   remediation: Do first what has to come first.
block contains "review.prerequisite_missing" if {
	prerequisite_missing_judged
	not prerequisite_missing_disproven
}

prerequisite_missing_judged if not input.action.tool.prerequisites == 0

prerequisite_missing_disproven if {
	count(input.action.prerequisites) == input.action.tool.prerequisites
	every prerequisite in input.action.prerequisites {
		prerequisite_missing_met(prerequisite)
	}
}

prerequisite_missing_met(prerequisite) if prerequisite.required == false

# While it waits for a person, or has carried another action, the reason that says so explains it.
prerequisite_missing_met(prerequisite) if prerequisite.latest in {"allow", "escalate", "consumed"}

# Where to look: the tools that have to come first.
findings contains {"code": "review.prerequisite_missing", "at": prerequisite.tool} if {
	"review.prerequisite_missing" in block
	some prerequisite in input.action.prerequisites
	not prerequisite_missing_met(prerequisite)
}
