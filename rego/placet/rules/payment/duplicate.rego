package placet.rules.payment

# METADATA
# scope: rule
# title: Duplicate
# description: The same business was allowed before, and may have been done.
# custom:
#   remedy: none
#   remediation: Do not do it again; look up what became of it.
block contains "payment.duplicate" if {
	duplicate_judged
	not duplicate_disproven
}

# Whatever has a business key, and whatever is not known to have none.
duplicate_judged if not input.action.tool.business_key == false

duplicate_disproven if {
	is_array(input.action.holds)
	count(input.action.holds) == input.counts.holds
	every hold in input.action.holds {
		duplicate_another(hold)
	}
}

# Judged by other rules, which escalate.
duplicate_another(hold) if hold.state == "unresolved"

duplicate_another(hold) if {
	hold.state in {"reserved", "committed"}
	hold.spelling == "other"
}
