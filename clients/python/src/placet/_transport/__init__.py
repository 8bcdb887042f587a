"""How calls are sent: channels, failures, when to ask again.

Internal, without any promise of stability: anything here may change with any release.
"""
