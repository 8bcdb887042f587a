# METADATA
# title: The decision
# description: >-
#   Gathers what every rule says of one input document. A block outweighs an escalation, an
#   escalation outweighs an allow, and without an allow nothing is permitted.
# entrypoint: true
package placet.decision

# Reasons are worded from the catalogue, which the bundle's build makes of the annotations on
# the rules. A code without an entry keeps its reason, unworded.
decision := object.union(
	{"effect": effect, "reasons": reasons, "obligations": []},
	waiting,
)

blocks contains code if some code in data.placet.rules[_].block

escalations contains code if some code in data.placet.rules[_].escalate

allows contains code if some code in data.placet.rules[_].allow

default effect := "block"

effect := "escalate" if {
	count(blocks) == 0
	count(escalations) > 0
	count(allows) > 0
}

effect := "allow" if {
	count(blocks) == 0
	count(escalations) == 0
	count(allows) > 0
}

reasons := worded(allows, "allow") if effect == "allow"

reasons := worded(escalations, "escalate") if effect == "escalate"

reasons := array.concat(worded(blocks, "block"), worded(escalations, "escalate")) if {
	effect == "block"
	count(blocks) > 0
}

reasons := array.concat([no_applicable_rule], worded(escalations, "escalate")) if {
	effect == "block"
	count(blocks) == 0
}

no_applicable_rule := {
	"code": "pdp.no_applicable_rule",
	"effect": "block",
	"message": "No rule permits this action.",
}

worded(codes, outcome) := [{"code": code, "effect": outcome, "message": message(code)} |
	some code in codes
]

message(code) := text if {
	text := data.placet.catalogue[code].message
	is_string(text)
} else := ""

default waiting := {}

# Waiting helps only where every block says how long.
waiting := {"retry_after_seconds": max(retry_after_seconds)} if {
	effect == "block"
	count(blocks) > 0
	every code in blocks {
		some delay in data.placet.rules[_].retry_after_seconds
		delay.code == code
	}
}

retry_after_seconds contains delay.seconds if {
	some delay in data.placet.rules[_].retry_after_seconds
}
