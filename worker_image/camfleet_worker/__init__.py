"""One camera: capture, inference, and the connection to the gateway. Binds no port."""

import os

# Official builds of ONNX Runtime report models and machines to their maker, under an id kept in HOME.
# They look at this once, when they are loaded; nothing loads them before this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
