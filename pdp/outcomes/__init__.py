"""What became of allows: reports, redemptions, and allows that nobody reported on."""
