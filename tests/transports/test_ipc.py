"""ipc: conformance, and what is special about paths, locks and stale files."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from amusd_mp.config import urls
from amusd_mp.errors import AddressError
from amusd_mp.testing.conformance import DEADLINE, TransportConformance, echo
from amusd_mp.transport import dial, listen
from amusd_mp.transports.ipc_path import parse


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short directory: pytest's own may be too long for a socket path."""
    with TemporaryDirectory(prefix="amusd-") as name:
        yield Path(name)


class TestIpc(TransportConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path) -> None:
        self._urls = (f"ipc://{folder}/{n}" for n in count())

    def url(self) -> str:
        return next(self._urls)


async def test_close_removes_every_file(folder: Path) -> None:
    async with await listen(f"ipc://{folder}/v") as listener:
        assert set(os.listdir(folder)) == {"v", "v.pub", "v.sub", "v.lock"}
        assert listener.endpoints == {"pub": f"ipc://{folder}/v.pub", "sub": f"ipc://{folder}/v.sub"}
    assert os.listdir(folder) == []


async def test_files_are_for_their_owner_alone(folder: Path) -> None:
    async with await listen(f"ipc://{folder}/new/v"):
        assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o700
        for path in (folder / "new").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_a_killed_listener_left_is_taken_over(folder: Path) -> None:
    program = (
        "import asyncio, os, sys; from amusd_mp.transport import listen\n"
        "async def main():\n    await listen(sys.argv[1]); os._exit(9)\n"
        "asyncio.run(main())"
    )
    url = f"ipc://{folder}/v"
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, url], timeout=60, check=False)
    assert killed.returncode == 9
    assert (folder / "v").exists()
    async with await listen(url) as listener, await dial(url) as dialer:
        listener.serve(echo)
        assert await dialer.request(b"mine now", DEADLINE) == b"mine now"


async def test_another_program_on_the_path_is_not_disturbed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "v"))
        other.listen()
        with pytest.raises(AddressError, match="taken: another program"):
            await listen(f"ipc://{folder}/v")
        assert (folder / "v").exists()


async def test_a_file_that_is_no_socket_is_not_removed(folder: Path) -> None:
    (folder / "v").write_text("precious")
    with pytest.raises(AddressError, match="not a socket"):
        await listen(f"ipc://{folder}/v")
    assert (folder / "v").read_text() == "precious"


@pytest.mark.parametrize("length", [103, 104])
async def test_the_longest_path_is_the_one_whose_siblings_fit(folder: Path, length: int) -> None:
    path = str(folder / "x").ljust(length, "x")
    with pytest.raises(ValueError, match="may have 103") if length > 103 else nullcontext():
        assert urls.resolve(f"ipc://{path}", folder) == f"ipc://{path}"  # a deployment file's own check
    for opening in (listen, dial):
        if length == 103:
            await (await opening(f"ipc://{path}")).close()
        else:
            with pytest.raises(AddressError, match="108 bytes"):
                await opening(f"ipc://{path}")


@pytest.mark.parametrize("url", ["ipc://", "ipc://relative", "ipc:///tmp/", "ipc://@abstract"])
async def test_a_path_must_be_absolute_and_a_file(url: str) -> None:
    for opening in (listen, dial):
        with pytest.raises(AddressError, match="absolute"):
            await opening(url)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_one_may_not_write_is_named() -> None:
    with pytest.raises(AddressError, match="Permission denied"):
        await listen("ipc:///amusd-not-allowed/v")


STRANGER = 12345


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file or link be that of a user who is neither this one nor root."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


@pytest.mark.parametrize("kind", ["folder", "link"])
async def test_a_folder_that_another_user_may_have_made_is_not_listened_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = folder / kind
    if kind == "folder":
        place.mkdir(mode=0o700)
    else:
        place.symlink_to(folder)
    give_away(place, monkeypatch)
    with pytest.raises(AddressError, match=rf"{place} belongs to user .*; choose one of this user's own"):
        await listen(f"ipc://{place}/v")
    assert os.listdir(folder) == [kind]


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o707, True), (0o775, False), (0o1777, False)])
async def test_a_folder_is_one_in_which_others_cannot_replace_our_files(folder: Path, mode: int, refused: bool) -> None:
    place = folder / "place"
    place.mkdir()
    place.chmod(mode)
    if refused:
        with pytest.raises(AddressError, match=rf"{place} can be written by everybody \(run `chmod o-w"):
            await listen(f"ipc://{place}/v")
    else:
        await (await listen(f"ipc://{place}/v")).close()


async def test_a_lock_that_leads_elsewhere_is_not_followed(folder: Path) -> None:
    (folder / "v.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(AddressError, match=r"v\.lock"):
        await listen(f"ipc://{folder}/v")
    assert os.listdir(folder) == ["v.lock"]


async def test_another_users_socket_is_not_dialled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await listen(f"ipc://{folder}/v"):
        give_away(folder / "v", monkeypatch)
        with pytest.raises(AddressError, match=rf"{folder}/v belongs to user .* run both ends as one user"):
            await dial(f"ipc://{folder}/v")


async def test_another_users_socket_is_not_attached_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await listen(f"ipc://{folder}/v") as listener, await dial(listener.url) as dialer:
        give_away(folder / "v.sub", monkeypatch)
        with pytest.raises(AddressError, match="belongs to user"):
            await dialer.attach(listener.endpoints)


def test_every_path_that_a_file_may_name_is_one_for_the_transport() -> None:
    assert parse(urls.resolve("ipc://@name", Path("/run"), {})) == "/run/@name"
