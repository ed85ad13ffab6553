"""Rule: a secret key is written for its owner alone, never over anything, and not used where others could read it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from amusd_mp.errors import ConfigError
from amusd_mp.security import keys
from amusd_mp.transport import is_key


@pytest.fixture
def wide_open() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("wide_open")
def test_a_key_file_has_its_mode_from_the_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(stat.S_IMODE(os.fstat(fd).st_mode)))
    opened: list[int] = []
    real = os.open

    def watched(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        opened.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    pair = keys.create(tmp_path / "a.key")
    assert opened == seen == [0o600]
    assert keys.read(tmp_path / "a.key") == pair
    assert is_key(pair.public)
    assert pair.secret not in repr(pair)


@pytest.mark.parametrize("other", ["file", "link", "dangling"])
def test_nothing_is_ever_overwritten(tmp_path: Path, other: str) -> None:
    path, target = tmp_path / "a.key", tmp_path / "precious"
    if other == "file":
        path.write_text("precious")
    else:
        path.symlink_to(target)
        if other == "link":
            target.write_text("precious")
    with pytest.raises(ConfigError, match="exists, and is not overwritten"):
        keys.create(path)
    assert (target if other != "file" else path).exists() == (other != "dangling")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o666, 0o700])
def test_a_key_that_others_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.key"
    keys.create(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600"):
        keys.read(path)
    path.chmod(0o400)
    keys.read(path)


def test_what_is_no_key_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(ConfigError, match=r"No such file.*amusd-mp keys new"):
        keys.read(path)
    one, two = (keys.create(tmp_path / name) for name in ("1.key", "2.key"))
    for text in ("", "\xff", "public = 1", f'public = "{one.public}"', f'secret = "x"\npublic = "{one.public}"'):
        path.write_text(text, encoding="latin-1")
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="no key file"):
            keys.read(path)
    path.write_text(f'secret = "{one.secret}"\npublic = "{two.public}"')
    with pytest.raises(ConfigError, match="does not belong"):
        keys.read(path)


def test_keys_for_dialling_come_in_twos(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    pair = keys.create(path)
    assert keys.for_dialling(None, None) is None
    options = keys.for_dialling(path, pair.public)
    assert options is not None
    assert options.credentials is not None
    assert (options.credentials.own, options.credentials.server) == (pair, pair.public)
    for key, server, what in (
        (path, None, "whom to trust"),
        (None, pair.public, "our own"),
        (path, "x", "40 characters"),
    ):
        with pytest.raises(ConfigError, match=what):
            keys.for_dialling(key, server)


@pytest.mark.parametrize("text", ["", "0" * 39, "0" * 41, "0" * 39 + '"', "#" * 40, "0" * 39 + "\u00e9"])
def test_what_is_no_key_is_told_from_one(text: str) -> None:
    assert not is_key(text)
    assert is_key("0" * 40)
