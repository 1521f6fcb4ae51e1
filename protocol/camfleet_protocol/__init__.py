"""What the worker, the gateway and the operator share, and nothing else.

The wire format (`wire`, `messages`, `window`), the Camera and CameraProfile models (`camera`),
the settings they resolve to (`settings`), and the redaction that every log passes (`redaction`, `logs`).
Imports pydantic and the standard library only.
"""

__version__ = "0.1.0"
