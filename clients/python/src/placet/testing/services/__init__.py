"""The gRPC services of the fake: the errors, roles and limits that a caller of the PDP meets.

One file a service. `requests` reads what was asked, `refusals` says no, `messages` writes answers.
"""
