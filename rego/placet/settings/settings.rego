# METADATA
# title: Effective settings
# description: >-
#   The tenant's own settings over the bundle's defaults, name by name. Thresholds by currency are one
#   setting: a tenant that lists currencies has listed them all, and no other has a threshold.
package placet.settings

# Undefined, so that every rule which needs a setting restricts, when either side is missing.
effective := object.union(object.remove(data.placet.defaults, listed), input.settings) if {
	is_object(data.placet.defaults)
	is_object(input.settings)
}

listed := {"large_amount", "dual_control_amount"} & object.keys(input.settings)
