"""`kubectl camfleet`: what the fleet does and why, and the few things that a person should do to it.

Everything goes through the API server with the rights of the person who asks: Cameras by their resource, the
operator's reasons through the pod proxy, pictures through a port-forward. Nothing is needed in the cluster
but what the chart installs, and what cannot be read is said instead of guessed.
"""
