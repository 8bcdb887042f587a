package placet.rules.session

# METADATA
# scope: rule
# title: Completed session
# description: The session's task is completed.
# custom:
#   remediation: Open a session for a new task.
block contains "session.completed" if input.session.state == "completed"
