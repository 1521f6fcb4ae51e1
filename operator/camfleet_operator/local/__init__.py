"""The operator without Kubernetes: Cameras from YAML files, workers as child processes."""
