"""How fast the PDP decides, beside plainer designs on the same machine: `make bench`."""
