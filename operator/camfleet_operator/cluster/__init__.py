"""The operator in a Kubernetes cluster: one worker pod per Camera."""
