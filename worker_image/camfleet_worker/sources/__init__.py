"""Where pictures come from: one interface, `camfleet_worker.sources.base.CaptureSource`."""
