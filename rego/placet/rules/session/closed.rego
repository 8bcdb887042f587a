package placet.rules.session

# METADATA
# scope: rule
# title: Closed session
# description: The session is closed.
# custom:
#   remedy: ask
#   remediation: Open a session for a new task.
block contains "session.closed" if input.session.state == "closed"
