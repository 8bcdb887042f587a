package placet.rules.boundary_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.boundary

test_resource_fires_for_another_id if {
	"boundary.resource" in boundary.block with input as fixtures.replaced("/action/resource/id", "INV-2")
}

test_resource_fires_for_another_type if {
	"boundary.resource" in boundary.block with input as fixtures.replaced("/action/resource/type", "order")
}

test_resource_fires_outside_the_prefix if {
	"boundary.resource" in boundary.block with input as fixtures.replaced("/action/resource", {"type": "vendor", "id": "W-1"})
}

test_resource_quiet_for_the_id if {
	not "boundary.resource" in boundary.block with input as fixtures.document
}

test_resource_quiet_for_the_prefix if {
	not "boundary.resource" in boundary.block with input as fixtures.replaced("/action/resource", {"type": "vendor", "id": "V-1"})
}

test_resource_fires_for_an_id_of_the_wrong_type if {
	every odd in [null, 1, ["INV-1001"], {}] {
		document := json.patch(fixtures.document, [
			{"op": "replace", "path": "/action/resource/id", "value": odd},
			{"op": "replace", "path": "/session/boundary/resources", "value": [{"type": "invoice", "id": odd}]},
		])
		not boundary.resource_proven with input as document
	}
}

test_resource_fires_for_a_type_of_the_wrong_type if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/resource/type", "value": null},
		{"op": "replace", "path": "/session/boundary/resources", "value": [{"type": null, "id": "INV-1001"}]},
	])
	not boundary.resource_proven with input as document
}

test_resource_fires_for_a_rule_that_says_nothing_or_too_much if {
	every odd in [
		{"type": "invoice"},
		{"type": "invoice", "id": "INV-1001", "prefix": "X"},
		{"type": "invoice", "prefix": null},
		{"id": "INV-1001"},
		"invoice:INV-1001",
		null,
	] {
		"boundary.resource" in boundary.block with input as fixtures.replaced("/session/boundary/resources", [odd])
	}
}

test_resource_fires_without_resources if {
	"boundary.resource" in boundary.block with input as fixtures.removed("/session/boundary/resources")
}

test_resource_fires_for_an_empty_boundary if {
	"boundary.resource" in boundary.block with input as fixtures.replaced("/session/boundary", {})
}

test_resource_is_moot_without_a_session if {
	not "boundary.resource" in boundary.block with input as fixtures.replaced("/session", null)
	not boundary.resource_proven with input as fixtures.replaced("/session", null)
}

test_resource_is_moot_without_a_resource if {
	not "boundary.resource" in boundary.block with input as fixtures.removed("/action/resource")
	not boundary.resource_proven with input as fixtures.removed("/action/resource")
}
