"""A real gateway as a subprocess, on free ports, with a state folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from camfleet_protocol.camera import Camera, CameraStatus, SettingsStatus, WorkerStatus
from camfleet_protocol.local import StateFolder, WorkerIdentity, sign_worker_token, write_atomic
from camfleet_protocol.settings import effective_settings

_PROGRAM = (
    "import sys; from camfleet_gateway.main import run; "
    "from camfleet_gateway.settings import GatewaySettings; "
    "sys.exit(run(GatewaySettings.model_validate_json(sys.argv[1])))"
)
START_SECONDS = 90.0


class GatewayProcess:
    """One running gateway. `settings` are fields of `GatewaySettings`."""

    def __init__(self, state: StateFolder, **settings: Any) -> None:
        state.create()
        self.state = state
        self.log_path = state.root / "gateway.log"
        self._settings = {
            "port": 0,
            "internal_port": 0,
            "state_dir": str(state.root),
            "exit_with_parent": True,
            **settings,
        }
        self._start()

    def _start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps(self._settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None:
                self._wait(30.0)
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the gateway did not start:\n{self.log}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            announced = json.loads((self.state.root / "gateway.json").read_bytes())
        except (OSError, ValueError):
            return False
        if announced["pid"] != self.process.pid:
            return False
        self.viewer_port: int = announced["viewer_port"]
        self.internal_port: int = announced["internal_port"]
        try:
            return httpx.get(f"{self.internal_url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def viewer_url(self) -> str:
        """`http://127.0.0.1:PORT` of the viewers."""
        return f"http://127.0.0.1:{self.viewer_port}"

    @property
    def internal_url(self) -> str:
        """`http://127.0.0.1:PORT` of the workers."""
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self, within: float = 30.0) -> int:
        """SIGTERM, and wait; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._wait(within)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.kill()
        self._wait(30.0)

    def restart(self) -> None:
        """Start again after `stop` or `kill`, on the same ports."""
        self._settings |= {"port": self.viewer_port, "internal_port": self.internal_port}
        self._start()

    def close_input(self) -> None:
        """End its standard input, as the death of its parent would."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _wait(self, within: float) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30.0)
            raise AssertionError(f"the gateway did not stop within {within:g} s:\n{self.log}") from None
        finally:
            if self.process.stdin is not None and not self.process.stdin.closed:
                self.process.stdin.close()


def test_pattern(name: str, namespace: str = "default", **spec: Any) -> Camera:
    """A camera with a test pattern as its source."""
    return Camera.model_validate(
        {
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"source": {"testPattern": {}}, **spec},
        }
    )


test_pattern.__test__ = False  # type: ignore[attr-defined]


def put_camera(state: StateFolder, camera: Camera, status: CameraStatus | None = None) -> Camera:
    """Write a camera into `objects/`, as the local runtime does; without a status, one is made up."""
    if status is None:
        settings = effective_settings(camera)
        status = CameraStatus(
            worker=WorkerStatus(attempt=1, pod_name=f"{camera.id}-1", pod_uid=f"{camera.id}-uid-1"),
            settings=SettingsStatus(hash=settings.hash, values=settings.values()),
        )
    camera = camera.model_copy(update={"status": status})
    write_atomic(_object(state, camera.id), camera.model_dump_json(by_alias=True, exclude_none=True).encode())
    return camera


def remove_camera(state: StateFolder, camera_id: str) -> None:
    """Remove a camera from `objects/`."""
    _object(state, camera_id).unlink()


def worker_token(state: StateFolder, camera: Camera, *, attempt: int | None = None, uid: str = "") -> str:
    """The token of the worker that the camera's status names, or of another attempt or pod."""
    current = camera.status.worker or WorkerStatus()
    identity = WorkerIdentity(
        camera=camera.id,
        attempt=current.attempt if attempt is None else attempt,
        pod_uid=uid or current.pod_uid,
    )
    return sign_worker_token(state.worker_key.read_bytes(), identity)


def _object(state: StateFolder, camera_id: str) -> Path:
    return state.objects / f"{camera_id}.json"


class LocalRuntimeDouble:
    """Turns overlays into objects in a thread, as the local runtime would: for tests of the API alone."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._stop = threading.Event()
        self._files: dict[str, Camera] = {}
        self._thread = threading.Thread(target=self._run, name="runtime-double", daemon=True)

    def add_file(self, camera: Camera) -> None:
        """Have a camera come from a user's file."""
        self._files[camera.id] = camera

    def __enter__(self) -> LocalRuntimeDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        from camfleet_operator.local.objects import read_overlays
        from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION, apply_overlay, spec_digest

        written: dict[str, Camera] = {}
        while not self._stop.wait(0.02):
            overlays = read_overlays(self._state)
            wanted: dict[str, Camera] = {}
            for camera_id in self._files.keys() | overlays.keys():
                file = self._files.get(camera_id)
                camera = apply_overlay(file, overlays.get(camera_id))
                if camera is None:
                    continue
                if file is not None:
                    annotations = {SPEC_DIGEST_ANNOTATION: spec_digest(file)}
                    metadata = camera.metadata.model_copy(update={"annotations": annotations})
                    camera = camera.model_copy(update={"metadata": metadata})
                wanted[camera_id] = camera
            for camera_id in written.keys() - wanted.keys():
                remove_camera(self._state, camera_id)
            for camera_id, camera in wanted.items():
                if written.get(camera_id) != camera:
                    put_camera(self._state, camera)
            written = wanted
