"""How values are written in messages and in JSON, once for client, fake and server.

Internal, without any promise of stability: the server, which is released together with this wheel, is the
only other package that may import it.
"""
