"""A real gateway with tokens and weights, for tests that enrol people through its API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from gateway_tokens import Tokens

from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess
from support.require import model_dir, sample

FIRST = ("obama.jpg", "obama2.jpg")
SECOND = ("biden.jpg", "biden2.jpg")
NAMES = ("Barack", "Joseph")


class Office:
    """A gateway with clients of each role."""

    def __init__(self, folder: Path) -> None:
        self.tokens = Tokens(folder / "tokens.yaml")
        self.state = StateFolder(folder / "state")
        self.state.create()
        self.gateway = GatewayProcess(
            self.state, tokens_file=str(self.tokens.path), model_dir=str(model_dir())
        )
        self.data = self.state.root / "gateway"
        self.clients = {
            role: httpx.Client(base_url=self.gateway.viewer_url, headers=self.tokens.header(role), timeout=60)
            for role in ("viewer", "operator", "admin")
        }
        self.viewer, self.operator, self.admin = (
            self.clients[role] for role in ("viewer", "operator", "admin")
        )

    def person(self, name: str, **fields: Any) -> str:
        """Enrol somebody without pictures; returns the id."""
        answer = self.operator.post("/api/people", json={"name": name, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def add(self, person_id: str, picture: bytes, **query: Any) -> httpx.Response:
        """Enrol a picture."""
        return self.operator.post(
            f"/api/people/{person_id}/faces",
            content=picture,
            headers={"Content-Type": "image/jpeg"},
            params=query,
        )

    def imported(self, content: bytes) -> dict[str, Any]:
        """Import an archive or a table; returns the report."""
        answer = self.operator.post("/api/people/import", content=content)
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        assert not report["error"], report
        return report

    def everybody(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """All people and their faces, as an operator sees them."""
        people = self.operator.get("/api/people").json()["people"]
        return [
            (each, self.operator.get(f"/api/people/{each['id']}/faces").json()["faces"]) for each in people
        ]

    def erase_all(self) -> None:
        """Leave nobody for the next test."""
        for person in self.admin.get("/api/people").json()["people"]:
            assert self.admin.delete(f"/api/people/{person['id']}").status_code == 200

    def close(self) -> None:
        """Stop it and look at what it has logged."""
        for client in self.clients.values():
            client.close()
        log = self.gateway.log
        self.gateway.stop()
        assert "Traceback" not in log, log
        for name in NAMES:
            assert name not in log, "no name of a person in the log"


def portrait(name: str) -> bytes:
    """A sample picture."""
    return sample(f"people/{name}").read_bytes()
