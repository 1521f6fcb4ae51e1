"""Sealed vectors: bound to key and row, keys read, made and recognised."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from store_kit import VECTOR, appearance, opened

from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.errors import KeyFileError, WrongKeyError
from camfleet_gateway.store.sealing import Sealer, own_key, read_key

KEY, OTHER = bytes(range(32)), bytes(32)


def test_what_is_sealed_opens_for_its_place_only() -> None:
    sealer = Sealer(KEY)
    sealed = sealer.seal(VECTOR, b"row 1")
    assert VECTOR not in sealed
    assert sealer.seal(VECTOR, b"row 1") != sealed, "no two nonces are alike"
    assert sealer.open(sealed, b"row 1") == VECTOR
    with pytest.raises(WrongKeyError, match="another place"):
        sealer.open(sealed, b"row 2")
    with pytest.raises(WrongKeyError, match="damaged"):
        sealer.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"row 1")
    with pytest.raises(WrongKeyError, match=f"{sealer.key_id}, ours is {Sealer(OTHER).key_id}"):
        Sealer(OTHER).open(sealed, b"row 1")
    for rubbish in (b"", b"\x01", b"\x02" + sealed[1:], sealed[:20]):
        with pytest.raises(WrongKeyError):
            sealer.open(rubbish, b"row 1")


def test_a_key_is_read_or_made_and_never_quoted(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = own_key(path)
    assert own_key(path) == read_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]
    for content in (b"", b"c2hvcnQ=", b"not base64 at all!", base64.b64encode(bytes(31)), b"A" * 5000):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match="32 random bytes") as caught:
            read_key(path)
        assert not content or content[:8].decode() not in str(caught.value)
    with pytest.raises(KeyFileError, match="No such file"):
        read_key(tmp_path / "nothing")


async def test_a_changed_key_is_told_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.events.store(appearance("a"), embedding=VECTOR, embedder="m@1")
        first = store.sealer.key_id
    key_file = tmp_path / "other.key"
    key_file.write_bytes(base64.b64encode(OTHER))
    with pytest.raises(WrongKeyError, match=rf"{first}.*put the right key back"):
        async with opened(tmp_path, key_file=key_file):
            pass
    async with opened(tmp_path) as store:
        assert await store.events.vector("a") == ("m@1", VECTOR)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"database_url": "mysql://x/y"}, "sqlite\\+aiosqlite"),
        ({"database_url": "sqlite+aiosqlite://events.db"}, "fourth slash"),
        ({"database_url": "postgresql+asyncpg://me@host"}, "must name the database"),
        ({"database_url": "postgresql+asyncpg://me:hush@host/db", "data_dir": "."}, "database_url_file"),
        (
            {"database_url": "postgresql+asyncpg://host/db?password=hush", "data_dir": "."},
            "database_url_file",
        ),
        ({"database_url": "postgresql+asyncpg://host/db"}, "key_file or data_dir"),
        (
            {"database_url": "postgresql+asyncpg://host/db", "database_url_file": "u", "data_dir": "."},
            "exclude",
        ),
        ({"milvus_url": "ftp://host"}, "http://HOST:PORT"),
        ({"milvus_url": "http://root:hush@host:19530"}, "milvus_token_file"),
        ({"milvus_token_file": "token"}, "goes with milvus_url"),
        ({"retention_days": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_not_quoted(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        GatewaySettings.model_validate(settings)
    assert "hush" not in str(caught.value)


def test_data_are_kept_beside_the_state() -> None:
    assert GatewaySettings(state_dir=Path("/s")).data_dir == Path("/s/gateway")
    assert GatewaySettings(state_dir=Path("/s"), data_dir=Path("/d")).data_dir == Path("/d")
    assert GatewaySettings().data_dir is None
