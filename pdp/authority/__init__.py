"""What may be done, and how much of it: boundaries, a tenant's settings, limits and their counters."""
