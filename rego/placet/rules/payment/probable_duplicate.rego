package placet.rules.payment

# METADATA
# scope: rule
# title: Probable duplicate
# description: The same business, spelt otherwise, was allowed before and may have been done.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve it after looking up what became of the other.
escalate contains "payment.probable_duplicate" if {
	probable_duplicate_judged
	not probable_duplicate_disproven
}

probable_duplicate_judged if not input.action.tool.business_key == false

probable_duplicate_disproven if {
	is_array(input.action.holds)
	count(input.action.holds) == input.counts.holds
	every hold in input.action.holds {
		probable_duplicate_another(hold)
	}
}

probable_duplicate_another(hold) if hold.state == "unresolved"

probable_duplicate_another(hold) if hold.spelling == "same"
