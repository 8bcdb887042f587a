"""What became of allows: reports, redemptions, and what nobody said."""
