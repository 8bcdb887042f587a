package placet.rules.registry_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.registry

test_resource_underivable_fires_for_the_problem if {
	"registry.resource_underivable" in registry.block with input as fixtures.replaced("/action/problems", ["registry.resource_underivable"])
}

test_resource_underivable_fires_without_a_resource if {
	"registry.resource_underivable" in registry.block with input as fixtures.removed("/action/resource")
}

test_resource_underivable_quiet_with_a_resource if {
	not "registry.resource_underivable" in registry.block with input as fixtures.document
}

test_resource_underivable_fires_for_a_resource_of_the_wrong_type if {
	every odd in [null, "invoice:INV-1001", {}, {"type": "invoice"}, {"type": "", "id": "x"}, {"type": "x", "id": ""}, {"type": 1, "id": 2}] {
		"registry.resource_underivable" in registry.block with input as fixtures.replaced("/action/resource", odd)
	}
}

test_resource_underivable_leaves_it_to_a_problem_that_explains_it if {
	not "registry.resource_underivable" in registry.block with input as json.remove(fixtures.replaced("/action/problems", ["registry.arguments_invalid"]), ["/action/resource"])
}

test_resource_underivable_is_not_explained_by_problems_of_the_wrong_type if {
	"registry.resource_underivable" in registry.block with input as json.remove(fixtures.replaced("/action/problems", "registry.arguments_invalid"), ["/action/resource"])
}

test_resource_underivable_fires_without_a_document if {
	"registry.resource_underivable" in registry.block with input as {}
}
