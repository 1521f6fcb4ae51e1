"""A real Kubernetes control plane, and with root a real node, from ordinary processes.

The tests and ``make cluster`` use it where there is no Docker. See ``docs/testbed.md``.
"""
