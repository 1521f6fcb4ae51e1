"""Rules of cameras that raise alerts: judged here, kept in the database, told as events."""
