package placet.rules.trust

import data.placet.settings

# METADATA
# scope: rule
# title: Trust below the floor
# description: An agent on the chain is not trusted enough for an action with this effect.
# custom:
#   remedy: ask
#   remediation: A reviewer may approve the action; an operator may raise the agent's trust.
escalate contains "trust.below_floor" if {
	not below_floor_exempt
	not below_floor_cleared
	not below_floor_moot
}

# No floor is set for the effect.
below_floor_exempt if {
	floors := settings.effective.trust_floor
	is_object(floors)
	is_string(input.action.tool.effect)
	not input.action.tool.effect in object.keys(floors)
}

below_floor_cleared if {
	least := settings.effective.trust_floor[input.action.tool.effect]
	is_number(least)
	is_array(input.chain)
	count(input.chain) > 0
	every hop in input.chain { below_floor_trusted(hop, least) }
}

below_floor_trusted(hop, least) if {
	trust := input.agents[hop.agent].trust
	is_number(trust)
	trust >= least
}

# Blocked already, by the reason that explains it.
below_floor_moot if "session.unknown" in data.placet.rules.session.block

below_floor_moot if "registry.unknown_tool" in data.placet.rules.registry.block

# Nobody's trust is judged by a chain that is wrong, and the chain's own code says what is.
below_floor_moot if data.placet.rules.chain.unproven_explained

# Where to look: every hop that is not trusted enough.
findings contains {"code": "trust.below_floor", "hop": hop.depth} if {
	"trust.below_floor" in escalate
	least := settings.effective.trust_floor[input.action.tool.effect]
	some hop in input.chain
	not below_floor_trusted(hop, least)
}
