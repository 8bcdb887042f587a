"""Everything on one machine: `pdp dev` and the story that it plays."""
