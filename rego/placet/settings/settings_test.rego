package placet.settings_test

import data.placet.settings

test_settings_of_the_tenant_go_over_the_defaults_name_by_name if {
	settings.effective == {"trust_floor": {"pay": 0.9, "send": 0.4}, "other": 1} with input as {"settings": {"trust_floor": {"pay": 0.9}}}
		with data.placet.defaults as {"trust_floor": {"pay": 0.5, "send": 0.4}, "other": 1}
}

test_settings_by_currency_are_the_tenants_alone if {
	settings.effective == {"large_amount": {"EUR": 2}, "dual_control_amount": {"EUR": 3, "USD": 3}} with input as {"settings": {"large_amount": {"EUR": 2}}}
		with data.placet.defaults as {"large_amount": {"EUR": 1, "USD": 1}, "dual_control_amount": {"EUR": 3, "USD": 3}}
	settings.effective == {"large_amount": {}} with input as {"settings": {"large_amount": {}}}
		with data.placet.defaults as {"large_amount": {"EUR": 1, "USD": 1}}
}

test_settings_are_the_defaults_where_the_tenant_says_nothing if {
	settings.effective == {"a": 1} with input as {"settings": {}} with data.placet.defaults as {"a": 1}
}

test_settings_are_undefined_when_the_tenants_are_missing if {
	not settings.effective with input as {} with data.placet.defaults as {"a": 1}
	not settings.effective with input as {"settings": null} with data.placet.defaults as {"a": 1}
}

test_settings_are_undefined_when_the_defaults_are_missing if {
	not settings.effective with input as {"settings": {}} with data.placet.defaults as null
}

test_settings_have_the_defaults_that_are_documented if {
	money := {"minor": 200000}
	settings.effective == {
		"trust_floor": {"write": 0.2, "send": 0.4, "pay": 0.5, "share": 0.5, "delete": 0.5, "credential": 0.8},
		"large_amount": {"EUR": money, "USD": money, "GBP": money},
		"dual_control_amount": {"EUR": {"minor": 1000000}, "USD": {"minor": 1000000}, "GBP": {"minor": 1000000}},
		"po_tolerance": {"ppm": 50000},
		"variance_block_factor": {"ppm": 2000000},
		"order_used": {"on_exceed": "escalate"},
		"velocity": {"payments": {"max": 5, "window_seconds": 60, "on_exceed": "escalate"}},
		"distinct_runtimes": false,
	} with input as {"settings": {}}
}
