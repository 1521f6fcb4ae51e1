"""Runs the cameras of a fleet: what should run is compared with what runs, and the difference is done."""
