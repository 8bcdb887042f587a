package placet.rules.session

# METADATA
# scope: rule
# title: Completed session
# description: The session's task is completed, and this is not among what may still be done.
# custom:
#   remedy: ask
#   remediation: Open a session for a new task.
block contains "session.completed" if {
	input.session.state == "completed"
	not completed_permits
}

# Named by every boundary; the session's own leads, and without it nothing is permitted.
completed_permits if {
	is_string(input.action.tool.name)
	input.boundaries[0].of == "session"
	every boundary in input.boundaries {
		input.action.tool.name in boundary.after_completion
	}
}
