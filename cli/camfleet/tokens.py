"""`camfleet token`: static bearer tokens, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

import click
import yaml

from camfleet_protocol.local import write_atomic

_PREFIX = "cft_"
_NAME = r"[A-Za-z0-9._-]{1,64}"
_ROLES = ("viewer", "operator", "admin", "worker")


@click.group()
def command() -> None:
    """Make and remove tokens for viewers and for workers run by hand."""


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="viewer", show_default=True)
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The tokens file."
)
def create(name: str, role: str, file: Path) -> None:
    """Make a token called NAME, print it once, and keep its SHA-256 in the tokens file.

    Roles: viewer watches; operator also starts, stops and tunes cameras; admin also adds and removes them;
    worker publishes pictures of cameras that nobody else runs.
    """
    if not re.fullmatch(_NAME, name):
        raise click.ClickException("a name has 1 to 64 letters, digits, dots, hyphens or underscores")
    tokens = _read(file)
    if any(entry.get("name") == name for entry in tokens):
        raise click.ClickException(f"there is a token called {name} already; remove it first")
    token = _PREFIX + secrets.token_urlsafe(32)
    tokens.append({"name": name, "role": role, "sha256": hashlib.sha256(token.encode()).hexdigest()})
    _write(file, tokens)
    click.echo(token)


@command.command()
@click.argument("name")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
def remove(name: str, file: Path) -> None:
    """Remove the token called NAME; a running gateway refuses it at once."""
    tokens = _read(file)
    rest = [entry for entry in tokens if entry.get("name") != name]
    if len(rest) == len(tokens):
        raise click.ClickException(f"there is no token called {name}")
    _write(file, rest)


@command.command(name="list")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
def list_tokens(file: Path) -> None:
    """List names and roles."""
    for entry in _read(file):
        click.echo(f"{entry.get('name')}\t{entry.get('role')}")


def _read(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    try:
        document = yaml.safe_load(file.read_bytes()) or {}
    except yaml.YAMLError:
        raise click.ClickException(f"{file} is not YAML") from None
    tokens = document.get("tokens") if isinstance(document, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(entry, dict) for entry in tokens):
        raise click.ClickException(f"{file} is not a tokens file")
    return tokens


def _write(file: Path, tokens: list[dict[str, str]]) -> None:
    try:
        write_atomic(file, yaml.safe_dump({"tokens": tokens}, sort_keys=False).encode())
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
