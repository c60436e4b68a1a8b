"""Sealing: only the right key opens, only for the owner, only what was not touched; and where the keys come from."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.domain.key import SANDBOX_SERVER_KEY, InvalidKey, ServerKey, parse_server_keys, render_server_key
from tolem.storage.sealing import CannotOpen, Sealer, key_id_of, key_path, load_sealer

OLD = ServerKey(b"o" * 32)
NEW = ServerKey(b"n" * 32)
OWNER = b"terminal 1"
POSTGRES = "postgresql://127.0.0.1/tolem"


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_is_sealed_opens(secret: bytes, owner: bytes) -> None:
    sealer = Sealer((OLD,))
    sealed = sealer.seal(secret, owner)
    assert sealer.open(sealed, owner) == secret
    assert key_id_of(sealed) == OLD.id
    assert len(secret) < 4 or secret not in sealed


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    sealer = Sealer((OLD,))
    assert len({sealer.seal(b"secret", OWNER) for _ in range(50)}) == 50


def test_every_changed_byte_is_noticed() -> None:
    sealer = Sealer((OLD,))
    sealed = sealer.seal(b"a secret of some length", OWNER)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(CannotOpen):
            sealer.open(bytes(changed), OWNER)
    for size in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:size], OWNER)


def test_each_purpose_has_a_key_of_its_own_from_the_first_server_key() -> None:
    derived = Sealer((OLD,)).derive(b"one")
    assert len(derived) == 32
    assert derived != OLD.secret
    assert derived == Sealer((OLD, NEW)).derive(b"one")
    assert len({derived, Sealer((OLD,)).derive(b"other"), Sealer((NEW, OLD)).derive(b"one")}) == 3


def test_it_opens_for_its_owner_only() -> None:
    sealer = Sealer((OLD,))
    with pytest.raises(CannotOpen, match="belongs elsewhere"):
        sealer.open(sealer.seal(b"secret", OWNER), b"terminal 2")


def test_a_key_of_the_same_name_does_not_open() -> None:
    sealed = Sealer((OLD,)).seal(b"secret", OWNER)
    with pytest.raises(CannotOpen, match=f"server key {OLD.id}, which is not among"):
        Sealer((NEW,)).open(sealed, OWNER)
    with pytest.raises(CannotOpen, match="was changed"):
        Sealer((NEW,)).open(sealed.replace(bytes.fromhex(OLD.id), bytes.fromhex(NEW.id)), OWNER)


def test_the_first_key_seals_and_all_open() -> None:
    both = Sealer((NEW, OLD))
    assert both.open(Sealer((OLD,)).seal(b"secret", OWNER), OWNER) == b"secret"
    assert key_id_of(both.seal(b"secret", OWNER)) == both.key_id == NEW.id
    assert both.key_ids == (NEW.id, OLD.id)
    assert "nnnn" not in repr(both)


def test_production_needs_a_key_of_its_own() -> None:
    with pytest.raises(InvalidKey, match="production needs server_key"):
        load_sealer("", POSTGRES, is_sandbox=False)
    with pytest.raises(InvalidKey, match="which everybody knows"):
        load_sealer(f"{render_server_key(NEW)} {render_server_key(SANDBOX_SERVER_KEY)}", POSTGRES, is_sandbox=False)
    assert load_sealer(render_server_key(NEW), POSTGRES, is_sandbox=False).key_ids == (NEW.id,)


def test_a_sandbox_on_postgresql_has_the_known_key() -> None:
    assert load_sealer("", POSTGRES, is_sandbox=True).key_ids == (SANDBOX_SERVER_KEY.id,)
    assert load_sealer(render_server_key(NEW), POSTGRES, is_sandbox=True).key_ids == (NEW.id, SANDBOX_SERVER_KEY.id)


def test_a_sandbox_on_sqlite_makes_a_key_once(sqlite_url: str) -> None:
    first = load_sealer("", sqlite_url, is_sandbox=True)
    path = key_path(sqlite_url)
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("tolem-server.key", 0o600)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load_sealer("", sqlite_url, is_sandbox=True).key_ids == first.key_ids
    assert first.key_ids != (SANDBOX_SERVER_KEY.id,)
    # One from the configuration seals from now on, and the file's still opens.
    assert load_sealer(render_server_key(NEW), sqlite_url, is_sandbox=True).key_ids == (NEW.id, *first.key_ids)


def test_a_configured_key_needs_no_file(sqlite_url: str) -> None:
    assert load_sealer(render_server_key(NEW), sqlite_url, is_sandbox=True).key_ids == (NEW.id,)
    assert not key_path(sqlite_url).exists()


@pytest.mark.parametrize(
    ("content", "words"), ((b"", "holds no key"), (b"\xff\xfe", "-server.key"), (b"x", "32 bytes"))
)
def test_a_damaged_key_file_is_told(sqlite_url: str, content: bytes, words: str) -> None:
    key_path(sqlite_url).write_bytes(content)
    with pytest.raises(InvalidKey, match=words):
        load_sealer("", sqlite_url, is_sandbox=True)


def test_processes_that_start_at_one_time_share_the_key(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(3) as pool:
        for number in range(10):
            url = f"sqlite:///{tmp_path / str(number)}.db"
            found = pool.starmap(_load_key_ids, [(url,)] * 3)
            (kept,) = parse_server_keys(key_path(url).read_text())
            assert found == [(kept.id,)] * 3


def _load_key_ids(url: str) -> tuple[str, ...]:
    return load_sealer("", url, is_sandbox=True).key_ids


def test_a_folder_that_takes_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match=r"No such file or directory\): set server_key"):
        load_sealer("", f"sqlite:///{tmp_path / 'none' / 'tolem.db'}", is_sandbox=True)
    assert os.listdir(tmp_path) == []
