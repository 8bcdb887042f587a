package placet.rules.session

# METADATA
# scope: rule
# title: Unknown session
# description: There is no such session for this caller.
# custom:
#   remedy: ask
#   remediation: Open a session for the task, and send its id with the same identity.
block contains "session.unknown" if not unknown_disproven

unknown_disproven if input.session.state in {"open", "completed", "closed", "expired", "halted"}
