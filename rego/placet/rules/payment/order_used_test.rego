package placet.rules.payment_test

import data.placet.fixtures_test as fixtures
import data.placet.rules.payment

# The document with other figures of what was paid on the order.
order_paid(change) := fixtures.replaced("/action/reference/order/paid", object.union(fixtures.document.action.reference.order.paid, change))

test_order_used_fires_beyond_the_tolerance_for_the_record_and_for_the_order if {
	every name in ["record", "order"] {
		document := json.patch(fixtures.document, [
			{"op": "add", "path": sprintf("/action/reference/%s/paid/used", [name]), "value": 60000},
			{"op": "add", "path": sprintf("/action/reference/%s/paid/excess_ppm", [name]), "value": 50001},
		])
		"payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
		not "payment.order_used" in payment.block with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_order_used_quiet_within_the_tolerance if {
	not "payment.order_used" in payment.escalate with input as order_paid({"used": 60000, "excess_ppm": 50000}) with data.placet.defaults as fixtures.defaults
	not "payment.order_used" in payment.escalate with input as order_paid({"used": 60000, "excess_ppm": -1}) with data.placet.defaults as fixtures.defaults
}

test_order_used_leaves_the_first_payment_to_other_rules if {
	not "payment.order_used" in payment.escalate with input as order_paid({"excess_ppm": 3000000}) with data.placet.defaults as fixtures.defaults
}

test_order_used_blocks_where_the_tenant_says_so if {
	blocks := json.patch(order_paid({"used": 1, "excess_ppm": 60000}), [{"op": "add", "path": "/settings/order_used", "value": {"on_exceed": "block"}}])
	"payment.order_used" in payment.block with input as blocks with data.placet.defaults as fixtures.defaults
	not "payment.order_used" in payment.escalate with input as blocks with data.placet.defaults as fixtures.defaults
}

test_order_used_blocks_for_a_setting_of_the_wrong_type if {
	every odd in [null, "escalate", {"on_exceed": null}, {"on_exceed": ["escalate"]}] {
		document := json.patch(order_paid({"used": 1, "excess_ppm": 60000}), [{"op": "add", "path": "/settings/order_used", "value": odd}])
		"payment.order_used" in payment.block with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_order_used_fires_for_figures_that_are_missing_or_odd if {
	every path in ["/action/reference/order/paid", "/action/reference/record/paid", "/action/reference/order/paid/used"] {
		"payment.order_used" in payment.escalate with input as fixtures.removed(path) with data.placet.defaults as fixtures.defaults
	}
	every odd in [null, "0", true, {}, []] {
		"payment.order_used" in payment.escalate with input as fixtures.replaced("/action/reference/order/paid", odd) with data.placet.defaults as fixtures.defaults
		"payment.order_used" in payment.escalate with input as order_paid({"used": odd}) with data.placet.defaults as fixtures.defaults
		"payment.order_used" in payment.escalate with input as order_paid({"used": 1, "excess_ppm": odd}) with data.placet.defaults as fixtures.defaults
	}
	document := json.remove(order_paid({"used": 1}), ["/action/reference/order/paid/excess_ppm"])
	"payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
}

test_order_used_fires_when_a_measure_was_lost if {
	every name in ["record", "order", "measures"] {
		document := fixtures.removed(sprintf("/action/reference/%s", [name]))
		"payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_order_used_takes_the_tenants_own_tolerance if {
	document := json.patch(order_paid({"used": 1, "excess_ppm": 60000}), [{"op": "add", "path": "/settings/po_tolerance", "value": {"ppm": 60000}}])
	not "payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
	every odd in [null, "60000", {"ppm": null}, {"ppm": "60000"}] {
		changed := json.patch(document, [{"op": "replace", "path": "/settings/po_tolerance", "value": odd}])
		"payment.order_used" in payment.escalate with input as changed with data.placet.defaults as fixtures.defaults
	}
}

test_order_used_blocks_without_settings_or_defaults if {
	document := order_paid({"used": 1, "excess_ppm": 0})
	"payment.order_used" in payment.block with input as json.remove(document, ["/settings"]) with data.placet.defaults as fixtures.defaults
	"payment.order_used" in payment.block with input as document with data.placet.defaults as null
}

test_order_used_quiet_for_what_is_no_payment if {
	every effect in ["read", "write", "send", "delete", "share", "credential"] {
		document := json.patch(order_paid({"used": 1, "excess_ppm": 60000}), [{"op": "replace", "path": "/action/tool/effect", "value": effect}])
		not "payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
	}
}

test_order_used_fires_when_it_is_not_known_whether_it_is_a_payment if {
	every odd in [null, "", "refund", ["write"], 7] {
		document := json.patch(order_paid({"used": 1, "excess_ppm": 60000}), [{"op": "replace", "path": "/action/tool/effect", "value": odd}])
		"payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
	}
	document := json.remove(order_paid({"used": 1, "excess_ppm": 60000}), ["/action/tool/effect"])
	"payment.order_used" in payment.escalate with input as document with data.placet.defaults as fixtures.defaults
}

test_order_used_fires_when_it_is_not_known_whether_the_tool_is_measured if {
	every odd in [null, "true", 1] {
		"payment.order_used" in payment.escalate with input as json.remove(fixtures.replaced("/action/tool/measured", odd), ["/action/reference"]) with data.placet.defaults as fixtures.defaults
	}
	"payment.order_used" in payment.escalate with input as json.remove(fixtures.document, ["/action/tool/measured", "/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_order_used_quiet_for_a_tool_that_is_not_measured if {
	not "payment.order_used" in payment.escalate with input as json.remove(fixtures.replaced("/action/tool/measured", false), ["/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_order_used_leaves_what_cannot_be_measured_to_other_reasons if {
	not "payment.order_used" in payment.escalate with input as fixtures.replaced("/action/reference", {"record_known": false, "order_named": false}) with data.placet.defaults as fixtures.defaults
}

test_order_used_is_moot_when_another_reason_explains_it if {
	not "payment.order_used" in payment.escalate with input as json.remove(fixtures.without_session, ["/action/reference"]) with data.placet.defaults as fixtures.defaults
	not "payment.order_used" in payment.escalate with input as json.remove(fixtures.document, ["/action/amount", "/action/reference"]) with data.placet.defaults as fixtures.defaults
}

test_order_used_is_moot_for_a_duplicate_but_not_for_a_probable_one if {
	used := order_paid({"used": 1, "excess_ppm": 60000})
	same := json.patch(used, [
		{"op": "replace", "path": "/action/holds", "value": [{"state": "reserved", "spelling": "same"}]},
		{"op": "replace", "path": "/counts/holds", "value": 1},
	])
	not "payment.order_used" in payment.escalate with input as same with data.placet.defaults as fixtures.defaults
	"payment.duplicate" in payment.block with input as same with data.placet.defaults as fixtures.defaults
	other := json.patch(same, [{"op": "replace", "path": "/action/holds/0/spelling", "value": "other"}])
	"payment.order_used" in payment.escalate with input as other with data.placet.defaults as fixtures.defaults
}

test_order_used_says_what_was_paid_and_what_there_is if {
	document := order_paid({"used": 60000, "add": 70000, "open": 90000, "unposted": 500, "excess_ppm": 83334})
	payment.findings == {{
		"code": "payment.order_used",
		"of": "order",
		"unit": "EUR",
		"used": 60000,
		"added": 70000,
		"limit": 120000,
		"open": 90000,
		"unposted": 500,
	}} with input as document with data.placet.defaults as fixtures.defaults
	record := fixtures.document.action.reference.record.paid
	of_record := fixtures.replaced("/action/reference/record/paid", object.union(record, {"used": 5, "excess_ppm": 60000}))
	{finding.of | some finding in payment.findings} == {"record"} with input as of_record with data.placet.defaults as fixtures.defaults
	count(payment.findings) == 0 with input as fixtures.document with data.placet.defaults as fixtures.defaults
}

test_order_used_says_nothing_of_amounts_in_another_currency_than_was_paid if {
	used := order_paid({"used": 60000, "excess_ppm": 83334})
	every path in ["/action/amount/currency", "/action/reference/order/currency", "/action/reference/order/paid/currency"] {
		document := json.patch(used, [{"op": "replace", "path": path, "value": "JPY"}])
		said := {finding | some finding in payment.findings; finding.code == "payment.order_used"} with input as document with data.placet.defaults as fixtures.defaults
		{object.remove(finding, ["unit"]) | some finding in said} == {{"code": "payment.order_used", "of": "order", "used": 60000}}
	}
}
