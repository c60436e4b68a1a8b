"""Sealing: how secrets rest in the database, so that the database alone gives nothing away.

AES-256-GCM under a server key, bound to what the secret belongs to. Called by the flows that keep secrets, and by
bootstrap and the command line, which open the server's keys. Invariant: what was sealed is opened only for the same
owner, and only by the key whose id it carries.

    sealed = version (1 byte) | id of the server key (8) | nonce (12) | ciphertext | tag (16)
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tolem.domain.key import (
    SANDBOX_SERVER_KEY,
    SERVER_KEY_BYTES,
    InvalidKey,
    ServerKey,
    parse_server_keys,
    render_server_key,
)
from tolem.storage.open import is_sqlite, sqlite_path

_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD_BYTES = len(_VERSION) + _ID_BYTES
_SEALED_BYTES_MIN = _HEAD_BYTES + _NONCE_BYTES + 16


class CannotOpen(Exception):
    """A sealed secret can't be opened: its server key is not here, or it was tampered with. Says which."""


class Sealer:
    """Seals under the first of the server's keys and opens with all of them."""

    def __init__(self, keys: Sequence[ServerKey]) -> None:
        if not keys:
            raise ValueError("a sealer needs a key")
        self.key_id = keys[0].id
        """Of the key that seals."""
        self.key_ids = tuple(key.id for key in keys)
        self._ciphers = {key.id: AESGCM(key.secret) for key in keys}
        self._first = keys[0]

    def __repr__(self) -> str:
        return f"Sealer({', '.join(self.key_ids)})"

    def derive(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for one purpose, of the first server key: another one once that is replaced."""
        return HKDF(SHA256(), SERVER_KEY_BYTES, salt=None, info=b"tolem " + purpose).derive(self._first.secret)

    def seal(self, secret: bytes, owner: bytes) -> bytes:
        """`owner`: names what the secret belongs to; it is not stored, and needed to open."""
        nonce = os.urandom(_NONCE_BYTES)
        head = _VERSION + bytes.fromhex(self.key_id)
        return head + nonce + self._ciphers[self.key_id].encrypt(nonce, secret, head + owner)

    def open(self, sealed: bytes, owner: bytes) -> bytes:
        """The secret. Raises CannotOpen."""
        key_id = key_id_of(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CannotOpen(f"it is sealed under server key {key_id}, which is not among the configured ones")
        head, nonce = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[_HEAD_BYTES + _NONCE_BYTES :], head + owner)
        except InvalidTag as error:
            raise CannotOpen(f"it was changed since server key {key_id} sealed it, or belongs elsewhere") from error


def key_id_of(sealed: bytes) -> str:
    """Which server key sealed it. Raises CannotOpen for what was never sealed here."""
    if not sealed.startswith(_VERSION) or len(sealed) < _SEALED_BYTES_MIN:
        raise CannotOpen("it is not sealed in a way that this version knows")
    return sealed[len(_VERSION) : _HEAD_BYTES].hex()


def load_sealer(server_key: str, database: str, *, is_sandbox: bool) -> Sealer:
    """The sealer of the configured keys. Raises InvalidKey.

    A sandbox needs none: beside a SQLite database it makes a key of its own in a file that only its user reads, on
    PostgreSQL it takes the one that everybody knows. Such a key goes on opening after others were configured.
    """
    keys = parse_server_keys(server_key)
    if is_sandbox:
        keys += _sandbox_keys(database, must_exist=not keys)
    elif not keys:
        raise InvalidKey("production needs server_key: `tolem keys new` makes one")
    elif SANDBOX_SERVER_KEY in keys:
        raise InvalidKey("server_key holds the sandbox's key, which everybody knows: `tolem keys new` makes another")
    return Sealer(tuple(dict.fromkeys(keys)))


def key_path(database: str) -> Path:
    """Where a sandbox keeps its own key: beside its SQLite file."""
    path = sqlite_path(database)
    return path.with_name(f"{path.stem}-server.key")


def _sandbox_keys(database: str, *, must_exist: bool) -> tuple[ServerKey, ...]:
    if not is_sqlite(database):
        return (SANDBOX_SERVER_KEY,)
    path = key_path(database)
    try:
        if must_exist and not path.exists():
            _make_key_file(path)
        keys = parse_server_keys(path.read_text()) if path.exists() else ()
    except OSError as error:
        raise InvalidKey(f"no server key can be kept in {path} ({error.strerror}): set server_key") from error
    except ValueError as error:  # not text, or no keys
        raise InvalidKey(f"{path}: {error}") from error
    if must_exist and not keys:
        raise InvalidKey(f"{path} holds no key: put it back, or remove it and set the secrets anew")
    return keys


def _make_key_file(path: Path) -> None:
    """A new key at `path`, whole or not at all: of two processes that make it at one time, both get the same one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # readable by its user only
    try:
        with os.fdopen(handle, "w") as file:
            file.write(render_server_key(ServerKey(os.urandom(SERVER_KEY_BYTES))) + "\n")
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
