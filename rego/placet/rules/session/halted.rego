package placet.rules.session

# METADATA
# scope: rule
# title: Halted session
# description: The session was halted.
# custom:
#   remedy: wait
#   remediation: Wait until an operator lifts the halt.
block contains "session.halted" if input.session.state == "halted"
