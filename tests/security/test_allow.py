"""Rule: the allow-list says who may connect and as what, is read again when it changes, and is never half in force."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from keyring import Keyring
from stubs import DEADLINE, until

from amusd_mp.errors import ConfigError
from amusd_mp.security import allow


def test_a_key_has_the_roles_of_all_its_tables(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    one, two = ring.pairs["draft"].public, ring.pairs["client"].public
    path = tmp_path / "list.toml"
    path.write_text(f'[draft]\na = "{one}"\n[client]\nb = "{two}"\nalso-a = "{one}"\n[observer]\n')
    found = allow.read(path)
    assert found.parties[one] == allow.Party("a", frozenset({"draft", "client"}))
    assert found.roles(two) == {"client"}
    assert found.roles(ring.pairs["stranger"].public) == found.roles(None) == frozenset()
    less = allow.parse({"client": {"a": one, "b": two}})
    assert found.lost(less) == {one}
    assert not less.lost(found)
    assert found.lost(allow.AllowList()) == {one, two}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[drafts]\n", "'drafts' is no role; write tables .draft., .client., .observer."),
        ("draft = 1\n", "'draft' is no role"),
        ('[draft]\ngpu-b = "short"\n', "draft.gpu-b: 'short' is no public key"),
        ("[draft]\ngpu-b = 1\n", "draft.gpu-b: 1 is no public key"),
        ("[draft\n", "Expected"),
        ("x = " + 5000 * "[", "recursion"),
        ("\xff", "utf-8"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "list.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=what) as caught:
        allow.read(path)
    assert str(path) in str(caught.value)


def test_a_list_that_anybody_can_write_is_refused(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    ring.list.chmod(0o666)
    with pytest.raises(ConfigError, match="chmod o-w"):
        allow.read(ring.list)
    with pytest.raises(ConfigError, match="cannot be read"):
        allow.read(tmp_path / "none.toml")


async def test_a_change_is_taken_and_a_broken_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(allow, "PERIOD", 0.002)
    ring = Keyring(tmp_path)
    file = allow.AllowFile(ring.list)
    changes: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    watching = asyncio.create_task(file.watch(changes.put))
    try:
        async with asyncio.timeout(DEADLINE):
            ring.allow("client", "draft")
            assert await changes.get() == {ring.pairs[name].public for name in ("other", "observer")}
            assert file.now.roles(ring.pairs["client"].public) == {"client"}

            for broken in (lambda: ring.list.write_text("[draft"), ring.list.unlink):
                caplog.clear()
                broken()
                await until(lambda: "stays in force" in caplog.text)
                assert file.now.roles(ring.pairs["client"].public) == {"client"}

            ring.allow("client", "draft", "observer")
            assert await changes.get() == frozenset()
            assert file.now.roles(ring.pairs["observer"].public) == {"observer"}
    finally:
        watching.cancel()
