"""Tokens of each role, and signing in with them."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import yaml
from playwright.sync_api import Page


def tokens_file(path: Path) -> dict[str, str]:
    """Write a tokens file; the tokens by role."""
    tokens = {role: "cft_" + secrets.token_urlsafe(32) for role in ("viewer", "operator", "admin")}
    entries = [
        {"name": role, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()}
        for role, token in tokens.items()
    ]
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return tokens


def sign_in(page: Page, token: str) -> None:
    """Give the token to the page that asks for it."""
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()
