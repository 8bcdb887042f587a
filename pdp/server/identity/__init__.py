"""Who calls: certificates, tokens, and the role each method needs."""
