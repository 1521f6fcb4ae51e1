"""What the API server itself says was written: its audit log, read while it grows.

Counting there costs the API server the same for every system that is measured, needs no watch of ours, and
tells who wrote (the User-Agent), what, and when the answer went out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class Write:
    """One request that was no read.

    Attributes:
        at: Unix seconds when it had been answered.
        who: The User-Agent up to its version.
        resource: Plural, with the subresource after a slash.
        object: `namespace.name`; the name is missing in a create whose body has it, see `Trail`.
        code: HTTP status of the answer.
    """

    at: float
    who: str
    verb: str
    resource: str
    object: str
    code: int


class Trail:
    """The writes so far. Call `read` to learn of new ones."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0
        self._rest = b""
        self.writes: list[Write] = []
        self.on_write: Callable[[Write], None] | None = None

    @staticmethod
    def arguments(folder: Path) -> tuple[str, ...]:
        """Arguments for the API server, and the policy file that they name."""
        folder.mkdir(parents=True, exist_ok=True)
        policy = folder / "audit-policy.json"
        policy.write_text(json.dumps(POLICY))
        return (
            f"--audit-policy-file={policy}",
            f"--audit-log-path={folder / 'audit.log'}",
            "--audit-log-maxsize=10000",
        )

    def read(self) -> None:
        """Take in what has been logged since the last time."""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            write = _parse(line)
            self.writes.append(write)
            if self.on_write is not None:
                self.on_write(write)

    def since(self, at: float, who: str | None = None) -> list[Write]:
        """The writes answered after `at`, of one writer or of all."""
        return [w for w in self.writes if w.at >= at and (who is None or w.who == who)]


def _parse(line: bytes) -> Write:
    event = json.loads(line)
    reference = event.get("objectRef") or {}
    resource = reference.get("resource", "")
    if subresource := reference.get("subresource"):
        resource += f"/{subresource}"
    return Write(
        at=datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
        who=event.get("userAgent", "").partition("/")[0],
        verb=event["verb"],
        resource=resource,
        object=f"{reference.get('namespace', '')}.{reference.get('name', '')}",
        code=(event.get("responseStatus") or {}).get("code", 0),
    )
