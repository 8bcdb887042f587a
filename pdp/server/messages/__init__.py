"""Messages to domain values and back, one file a noun.

A function that is called by what it returns (`evaluation_request`, `hops`, `agents`) reads a message and
checks every field, its length included; it raises `InvalidFieldError` with the field's path. One that is
called `..._message` writes a message.
"""
