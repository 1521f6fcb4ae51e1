"""What outlives the gateway: events, people, alerts and the audit log, in SQLite or PostgreSQL."""
