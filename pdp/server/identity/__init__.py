"""Who calls: certificates, bearer tokens, and the keys that prove them."""
