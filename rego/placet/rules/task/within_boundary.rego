package placet.rules.task

import data.placet.rules.boundary

# METADATA
# scope: rule
# title: Within the task's boundary
# description: The task's boundary includes this action.
allow contains "task.within_boundary" if {
	input.session.state in {"open", "completed"}
	input.action.tool.known == true
	input.action.problems == []
	boundary.tool_proven
	boundary.resource_proven
	within_boundary_amount_proven
}

within_boundary_amount_proven if boundary.amount_proven

within_boundary_amount_proven if {
	is_object(input.action)
	not boundary.amount_judged
}
