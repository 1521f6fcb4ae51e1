"""How the operator scales: thousands of Cameras on a control plane, next to the same pods made directly."""
