"""A tokens file, as a gateway reads it."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import yaml

ROLES = ("viewer", "operator", "admin", "worker")


class Tokens:
    """A tokens file with one token of each role."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_role = {role: "cft_" + secrets.token_urlsafe(32) for role in ROLES}
        self.write(ROLES)

    def write(self, roles: tuple[str, ...]) -> None:
        """Let the file hold the tokens of these roles."""
        entries = [
            {
                "name": f"the-{role}",
                "role": role,
                "sha256": hashlib.sha256(self.by_role[role].encode()).hexdigest(),
            }
            for role in roles
        ]
        self.path.write_text(yaml.safe_dump({"tokens": entries}))

    def header(self, role: str | None) -> dict[str, str]:
        """The Authorization header of a role, none for None."""
        return {} if role is None else {"Authorization": f"Bearer {self.by_role[role]}"}
