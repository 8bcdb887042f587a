"""What may be done, and how much: boundaries, a tenant's settings, limits and their counters."""
