"""How the database is reached: connections, locks, parameters, its clock."""
