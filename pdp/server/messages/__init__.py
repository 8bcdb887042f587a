"""Messages to domain values and back, one file a noun: total, and the only place where limits on input stand.

A function that is called by what it returns (`evaluation_request`, `hops`, `agents`) reads a message, and
checks every field; one called `..._message` writes it. A message that is refused raises `InvalidFieldError`
with the field's path.
"""
