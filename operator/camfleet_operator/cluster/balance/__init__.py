"""How much of each node is in use, where new workers would rather run, and what relieves a loaded node."""
