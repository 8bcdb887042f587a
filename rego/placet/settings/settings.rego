# METADATA
# title: Effective settings
# description: The tenant's own settings over the bundle's defaults, name by name.
package placet.settings

# Undefined, so that every rule which needs a setting restricts, when either side is missing.
effective := object.union(data.placet.defaults, input.settings) if {
	is_object(data.placet.defaults)
	is_object(input.settings)
}
