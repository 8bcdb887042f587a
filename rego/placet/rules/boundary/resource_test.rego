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
			{"op": "replace", "path": "/boundaries/0/resources", "value": [{"type": "invoice", "id": odd}]},
		])
		not boundary.resource_proven with input as document
	}
}

test_resource_fires_for_a_type_of_the_wrong_type if {
	document := json.patch(fixtures.document, [
		{"op": "replace", "path": "/action/resource/type", "value": null},
		{"op": "replace", "path": "/boundaries/0/resources", "value": [{"type": null, "id": "INV-1001"}]},
	])
	not boundary.resource_proven with input as document
}

test_resource_fires_for_a_rule_that_says_nothing_or_too_much if {
	every odd in [
		{"type": "invoice"},
		{"type": "invoice", "id": "INV-1001", "prefix": "X"},
		{"type": "invoice", "prefix": null},
		{"type": "invoice", "prefix": ""},
		{"type": "invoice", "any": "true"},
		{"type": "invoice", "any": true, "id": "INV-2"},
		{"id": "INV-1001"},
		"invoice:INV-1001",
		null,
	] {
		"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/0/resources", [odd])
	}
}

test_resource_fires_without_resources if {
	"boundary.resource" in boundary.block with input as fixtures.removed("/boundaries/0/resources")
}

test_resource_fires_for_an_empty_boundary if {
	"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/0", {})
}

test_resource_is_moot_without_a_session if {
	not "boundary.resource" in boundary.block with input as fixtures.without_session
	not boundary.resource_proven with input as fixtures.without_session
}

test_resource_is_moot_without_a_resource if {
	not "boundary.resource" in boundary.block with input as fixtures.removed("/action/resource")
	not boundary.resource_proven with input as fixtures.removed("/action/resource")
}

test_resource_quiet_for_an_id_of_a_set if {
	listed := [{"type": "invoice", "ids": ["INV-1", "INV-1001"]}]
	not "boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/0/resources", listed)
}

test_resource_fires_for_an_id_outside_the_set if {
	listed := [{"type": "invoice", "ids": ["INV-1", "INV-10"]}]
	"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/0/resources", listed)
}

test_resource_fires_for_a_set_of_the_wrong_type if {
	every odd in [null, "INV-1001", {"INV-1001": "INV-1001"}, 1, []] {
		listed := [{"type": "invoice", "ids": odd}]
		"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/0/resources", listed)
	}
}

test_resource_fires_unless_every_boundary_includes_it if {
	narrower := {"of": "template", "resources": [{"type": "invoice", "id": "INV-2"}]}
	"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/-", narrower)
}

test_resource_quiet_when_every_boundary_includes_it if {
	wider := {"of": "template", "resources": [{"type": "invoice", "any": true}]}
	not "boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries/-", wider)
}

test_resource_fires_without_the_sessions_own_boundary if {
	every odd in [[], null, {}, [{"of": "template", "resources": [{"type": "invoice", "any": true}]}]] {
		"boundary.resource" in boundary.block with input as fixtures.replaced("/boundaries", odd)
	}
}

vendors_of_invoices := {"type": "vendor", "attribute": {"of_type": "invoice", "attribute": "vendor"}}

of_vendor(rule) := json.patch(fixtures.document, [
	{"op": "replace", "path": "/action/resource", "value": {"type": "vendor", "id": "V-1"}},
	{"op": "replace", "path": "/boundaries/0/resources", "value": [rule]},
])

test_resource_quiet_for_a_resolved_id if {
	document := of_vendor(object.union(vendors_of_invoices, {"resolved": ["V-1", "V-2"]}))
	not "boundary.resource" in boundary.block with input as document
}

test_resource_fires_for_an_id_that_is_not_resolved if {
	every others in [[], ["V-2"], ["V-10"]] {
		document := of_vendor(object.union(vendors_of_invoices, {"resolved": others}))
		"boundary.resource" in boundary.block with input as document
	}
}

test_resource_fires_when_nothing_was_resolved if {
	"boundary.resource" in boundary.block with input as of_vendor(vendors_of_invoices)
}

test_resource_fires_for_an_attribute_rule_of_the_wrong_type if {
	every odd in [
		{"type": "vendor", "attribute": {"of_type": "invoice"}, "resolved": ["V-1"]},
		{"type": "vendor", "attribute": "vendor", "resolved": ["V-1"]},
		{"type": "vendor", "resolved": ["V-1"]},
		object.union(vendors_of_invoices, {"resolved": "V-1"}),
		object.union(vendors_of_invoices, {"resolved": {"V-1": "V-1"}}),
		object.union(vendors_of_invoices, {"resolved": null}),
		object.union(vendors_of_invoices, {"resolved": ["V-1"], "prefix": ""}),
		object.union(vendors_of_invoices, {"resolved": ["V-1"], "type": "invoice"}),
	] {
		"boundary.resource" in boundary.block with input as of_vendor(odd)
	}
}

test_resource_names_the_boundary_that_lacks_it if {
	document := json.patch(fixtures.delegated, [{"op": "replace", "path": "/boundaries/1/resources", "value": []}])
	boundary.findings == {{"code": "boundary.resource", "of": "grant", "at": "chain[1]"}} with input as document
}
