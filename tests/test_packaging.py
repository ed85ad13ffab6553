"""Rule: what lies on disk is what is packaged, lies at the top, and is public."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import importlib.util
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from tree import FOLDERS, PROJECT, ROOT, SOURCES, python

import amusd_mp

PUBLIC = {
    "AccessDenied",
    "AmusdError",
    "Busy",
    "Chunk",
    "Client",
    "ConfigError",
    "Finish",
    "GenerationResult",
    "GenerationTimeout",
    "LocalCluster",
    "ModelError",
    "NodeFailed",
    "NotReady",
    "OperationalError",
    "Origin",
    "ProtocolError",
    "RequestError",
    "SequenceLost",
    "SpeculativeDecoding",
    "Strategy",
    "Stream",
    "Token",
    "TransportError",
    "UsageError",
    "connect",
}
"""`amusd_mp.__all__`: what an application may rely on. Adding a name here is a promise."""

TOP_LEVEL = {
    *("amusd_mp", "transports", "nodes", "configs", "tests", "pyproject.toml"),
    *("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile", "constraints.txt", "docs"),
}
"""What the repository's root may hold beside dotfiles."""


def folders_with_code() -> dict[str, Path]:
    return {module: path.parent for module, path in SOURCES.items() if path.name == "__init__.py"}


def test_the_package_list_equals_the_folders_on_disk() -> None:
    """A forgotten package works in an editable install and is missing from the wheel."""
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(folders_with_code())
    for path in SOURCES.values():
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has modules and no __init__.py"


def test_every_data_file_is_packaged() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    packages = folders_with_code()
    packaged = {
        path
        for package, globs in patterns.items()
        for path in packages[package].rglob("*")
        if any(fnmatch.fnmatch(path.relative_to(packages[package]).as_posix(), glob) for glob in globs)
    }
    for folder in FOLDERS.values():
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
                assert path in packaged, f"{path.relative_to(ROOT)} is in no package-data pattern"


@pytest.mark.parametrize(
    ("group", "name"),
    [(group, name) for group, points in PROJECT["project"]["entry-points"].items() for name in points],
)
def test_entry_points_resolve(group: str, name: str) -> None:
    (point,) = importlib.metadata.entry_points(group=group, name=name)
    assert isinstance(point.load(), type)
    assert SOURCES[point.module].is_relative_to(FOLDERS[group])


def test_the_command_resolves() -> None:
    (point,) = importlib.metadata.entry_points(group="console_scripts", name="amusd-mp")
    assert callable(point.load())


def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("amusd_mp", "transports", "nodes", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    done = python("-c", build, str(tmp_path), cwd=copy)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside_wheel = {each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in each}
    expected = {
        "/".join((*package.split("."), path.relative_to(folder).as_posix()))
        for package, folder in FOLDERS.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside_wheel == expected


def test_the_top_level_holds_the_six_and_what_every_project_has() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    entries = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    assert {each for each in entries if not each.startswith(".")} <= TOP_LEVEL


def test_public_names_are_pinned() -> None:
    names = list(getattr(amusd_mp, "__all__", ()))
    assert set(names) == PUBLIC
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(amusd_mp, name), f"{name} is in __all__ and not there"


def test_the_version_is_the_project_files() -> None:
    assert amusd_mp.__version__ == PROJECT["project"]["version"]
