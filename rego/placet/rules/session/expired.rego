package placet.rules.session

# METADATA
# scope: rule
# title: Expired session
# description: The session has expired.
# custom:
#   remedy: ask
#   remediation: Open a session for a new task, with an expiry that suits it.
block contains "session.expired" if input.session.state == "expired"
