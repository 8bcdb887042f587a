# METADATA
# title: The decision
# description: >-
#   Gathers what every rule says of one input document. A block outweighs an escalation, an
#   escalation outweighs an allow, and without an allow nothing is permitted.
# entrypoint: true
package placet.decision

# One rule with `else`, not several with conditions: OPA evaluates the conditions of such rules
# anew for each, which doubles the cost of a batch (measured on OPA 1.22.2).
decision := object.union(verdict("block", array.concat(explained(blocks, "block"), escalation_reasons)), waiting) if {
	count(blocks) > 0
} else := verdict("block", array.concat([no_applicable_rule], escalation_reasons)) if {
	count(allows) == 0
} else := verdict("escalate", escalation_reasons) if {
	count(escalations) > 0
} else := verdict("allow", worded(allows, "allow"))

blocks contains code if some code in data.placet.rules[_].block

escalations contains code if some code in data.placet.rules[_].escalate

allows contains code if some code in data.placet.rules[_].allow

verdict(effect, reasons) := {"effect": effect, "reasons": reasons, "obligations": []}

escalation_reasons := explained(escalations, "escalate")

no_applicable_rule := {
	"code": "pdp.no_applicable_rule",
	"effect": "block",
	"message": "No rule permits this action.",
	"remediation": "Have whoever writes policy add a rule that permits the action.",
	"remedy": "ask",
}

# Reasons are worded from the catalogue, which the bundle's build makes of the annotations on
# the rules. A code without an entry keeps its reason, unworded.
worded(codes, effect) := [{"code": code, "effect": effect, "message": message(code)} |
	some code in codes
]

# What restricts also comes with what can be done, and with what its rule found.
explained(codes, effect) := [object.union_n([reason, advice(reason.code), found(reason.code)]) |
	some reason in worded(codes, effect)
]

findings contains finding if some finding in data.placet.rules[_].findings

found(code) := {"findings": list} if {
	list := [finding | some finding in findings; finding.code == code]
	count(list) > 0
} else := {}

advice(code) := object.filter(data.placet.catalogue[code], {"remediation", "remedy"}) if {
	is_object(data.placet.catalogue[code])
} else := {}

message(code) := text if {
	text := data.placet.catalogue[code].message
	is_string(text)
} else := ""

default waiting := {}

# Waiting helps only where every block says how long.
waiting := {"retry_after_seconds": max(delays)} if {
	every code in blocks {
		some delay in data.placet.rules[_].retry_after_seconds
		delay.code == code
	}
	delays := {delay.seconds | some delay in data.placet.rules[_].retry_after_seconds}
}
