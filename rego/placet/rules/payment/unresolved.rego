package placet.rules.payment

# METADATA
# scope: rule
# title: Unresolved before
# description: The same business was allowed before, and whether it was done is not known for certain.
# custom:
#   remedy: ask
#   remediation: Have the tool or an operator report what became of it, or a reviewer approve this one.
escalate contains "payment.unresolved" if {
	unresolved_judged
	not unresolved_disproven
}

unresolved_judged if not input.action.tool.business_key == false

unresolved_disproven if {
	is_array(input.action.holds)
	count(input.action.holds) == input.counts.holds
	every hold in input.action.holds {
		hold.state in {"reserved", "committed"}
	}
}
