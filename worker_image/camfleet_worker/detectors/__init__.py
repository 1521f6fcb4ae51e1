"""Detectors as plugins: one interface, `camfleet_worker.detectors.base.Detector`."""
