"""Events told to other systems: queued in the database, signed, tried again, given up in a list."""
