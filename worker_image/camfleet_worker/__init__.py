"""One camera: capture, inference, and the connection to the gateway. Binds no port."""
