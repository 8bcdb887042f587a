"""The calls of the API: what is sent, and what an answer must be.

Internal: no promise is made about anything here.
"""
