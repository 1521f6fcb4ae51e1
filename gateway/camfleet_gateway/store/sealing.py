"""Encryption of vectors in the database: AES-256-GCM, bound to the row that they stand in.

A sealed value is: version (1 byte), id of the key (4 bytes), nonce (12 bytes), ciphertext with its tag. The
nonce is random: NIST SP 800-38D §8.3 allows 2^32 values for a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from camfleet_gateway.store.errors import KeyFileError, WrongKeyError
from camfleet_protocol.local import write_atomic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MAX_FILE_BYTES = 4096


def read_key(path: Path) -> bytes:
    """The key in a file: 32 bytes in base64.

    Raises:
        KeyFileError: It cannot be read or is no key; the text quotes nothing of it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    try:
        key = base64.b64decode(content.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: must be {KEY_BYTES} random bytes in base64 (openssl rand -base64 32)")
    return key


def own_key(path: Path) -> bytes:
    """The key in a file of our own, made if it is not there, readable by its owner only.

    Raises:
        KeyFileError: It cannot be made or read.
    """
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write_atomic(fresh, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            os.link(fresh, path)  # of several that start together, the first one's stays
        except FileExistsError:
            pass
        except OSError as error:
            raise KeyFileError(f"{path}: {error.strerror}") from None
        finally:
            fresh.unlink(missing_ok=True)
    return read_key(path)


class Sealer:
    """Seals and opens small values with one key."""

    def __init__(self, key: bytes) -> None:
        """Take the key.

        Raises:
            ValueError: It is not of 32 bytes.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes")
        self._key = key
        self._id = hashlib.sha256(b"camfleet key id" + key).digest()[:_ID_BYTES]

    @cached_property
    def _cipher(self) -> AESGCM:
        # Imported here, for a gateway that keeps no vectors needs none of its eight megabytes.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key)

    @property
    def key_id(self) -> str:
        """Tells keys apart and says nothing about them."""
        return self._id.hex()

    def seal(self, value: bytes, context: bytes) -> bytes:
        """Encrypt a value for one place, such as the id of its row."""
        nonce = os.urandom(_NONCE_BYTES)
        head = _VERSION + self._id
        return head + nonce + self._cipher.encrypt(nonce, value, head + context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt what was sealed for this place.

        Raises:
            WrongKeyError: It was sealed with another key or for another place, or is damaged.
        """
        from cryptography.exceptions import InvalidTag

        head, rest = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES :]
        if head[:1] != _VERSION or len(rest) < _NONCE_BYTES + _TAG_BYTES:
            raise WrongKeyError("this is not a sealed value")
        if head[1:] != self._id:
            raise WrongKeyError(f"sealed with the key {head[1:].hex()}, ours is {self.key_id}")
        try:
            return self._cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + context)
        except InvalidTag:
            raise WrongKeyError("the sealed value was made for another place, or is damaged") from None
