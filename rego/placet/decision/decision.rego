# METADATA
# title: The decision
# description: >-
#   Gathers what every rule says of one input document. A block outweighs an escalation, an
#   escalation outweighs an allow, and without an allow nothing is permitted.
# entrypoint: true
package placet.decision

# One rule with `else`, not several with conditions: OPA evaluates the conditions of such rules
# anew for each, which doubles the cost of a batch (measured on OPA 1.22.2).
decision := object.union(verdict("block", array.concat(worded(blocks, "block"), escalation_reasons)), waiting) if {
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

escalation_reasons := worded(escalations, "escalate")

no_applicable_rule := {
	"code": "pdp.no_applicable_rule",
	"effect": "block",
	"message": "No rule permits this action.",
}

# Reasons are worded from the catalogue, which the bundle's build makes of the annotations on
# the rules. A code without an entry keeps its reason, unworded.
worded(codes, effect) := [{"code": code, "effect": effect, "message": message(code)} |
	some code in codes
]

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
