"""The calls of the API: what is sent, and what an answer must be.

Internal, without any promise of stability: anything here may change with any release.
"""
