"""What an MCP server lists, made ready for the registry.

`listing` reads the pages of a `tools/list`, `dialects` writes each schema in the one dialect that the server
judges by, and `closing` closes it.
"""
