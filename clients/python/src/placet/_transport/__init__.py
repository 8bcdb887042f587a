"""How calls are sent: channels, failures, when to ask again.

Internal: no promise is made about anything here.
"""
