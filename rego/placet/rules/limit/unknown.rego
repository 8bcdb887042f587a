package placet.rules.limit

# METADATA
# scope: rule
# title: Limits not known
# description: Which limits the action meets could not be read in full.
# custom:
#   remedy: ask
#   remediation: None for the caller; the operator should look at the server's log.
block contains "limit.unknown" if not unknown_disproven

unknown_disproven if {
	is_array(input.limits)
	codes := [limit.code | some limit in input.limits]
	count(codes) == input.counts.limits
	count({code | some code in codes} - unknown_none_of) == 0
}

# Limits that some rule judges.
unknown_none_of := {
	"boundary.counterparty_total", "boundary.max_actions", "boundary.total", "boundary.velocity",
	"limit.budget", "payment.counterparty_total",
}
