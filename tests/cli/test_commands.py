"""The command line answers quickly, tells usage errors by exit code 2, and `check` finds what is wrong beforehand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "pydantic", "zmq")


def amusd(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `amusd-mp ARGUMENTS`."""
    import os

    return subprocess.run(
        [sys.executable, "-m", "amusd_mp", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1", **environ},
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good deployment file."""
    path = tmp_path / "good.toml"
    path.write_text((ROOT / "configs" / "demo.toml").read_text())
    return path


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_asking_the_frame_imports_no_library(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "amusd_mp", flag], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & set(HEAVY)


def test_the_version_is_the_package_s() -> None:
    from amusd_mp import __version__

    assert amusd("--version").stdout.strip() == f"amusd-mp {__version__}"


def test_check_approves_and_summarises(file: Path) -> None:
    done = amusd("check", file, XDG_RUNTIME_DIR="/run/user/7")
    assert done.returncode == 0, done.stderr
    assert "no problems found" in done.stdout
    assert "verify, bundled:verify (float32) at cpu" in done.stdout
    assert "dials ipc:///run/user/7/amusd-mp/demo.sock" in done.stdout


def test_check_does_not_load_a_model_library(file: Path) -> None:
    script = (
        "import sys; from amusd_mp.cli.inspection import inspect; from amusd_mp.config import load_deployment;"
        f"inspect(load_deployment({str(file)!r}), None); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_check_tells_every_problem_of_a_file(file: Path) -> None:
    file.write_text(file.read_text().replace("threads", "thread").replace("dial =", "connect ="))
    done = amusd("check", file)
    assert done.returncode == 2
    problems = [line for line in done.stderr.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 3
    assert all(str(file) in problem for problem in problems)
    assert any("did you mean nodes.verify.threads?" in problem for problem in problems)
    assert any("here that is nodes.draft.dial" in problem for problem in problems)


def test_check_tells_what_a_file_contradicts_itself_in(file: Path) -> None:
    done = amusd("check", file, "--set", "nodes.draft.dial=draft", "--set", "nodes.verify.api_key=k")
    assert done.returncode == 2
    assert "nodes.draft.dial: a node cannot dial itself" in done.stderr
    assert "nodes.verify.api_key: belongs to a gateway" in done.stderr


def test_check_of_a_host_that_the_file_does_not_name_is_no_success(file: Path) -> None:
    done = amusd("check", ROOT / "configs" / "two-hosts.toml", "--host", "gpu-x")
    assert done.returncode == 2
    assert "--host gpu-x: no node is placed there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("up", "FILE", "--ready-file", "FOLDER/absent/ready"), "--ready-file: the folder"),
        (("node", "verify", "--config", "FILE", "--ready-file", "FOLDER"), "is a folder; name a file in it"),
        (("demo", "--json", "FOLDER"), "is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_started(
    file: Path, arguments: tuple[str, ...], problem: str
) -> None:
    done = amusd(*(each.replace("FILE", str(file)).replace("FOLDER", str(file.parent)) for each in arguments))
    assert done.returncode == 2
    assert problem in done.stderr


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "nodes.draft.role=oracle",
            "nodes.draft.role: no node has the role 'oracle'; installed: draft, gateway, verify",
        ),
        (
            "nodes.draft.model=bundled:both",
            "nodes.draft.model: no bundled model 'bundled:both'; there are: bundled:draft, bundled:verify",
        ),
        ("nodes.draft.model=./absent", "absent'; give a folder with config.json, a hub id or bundled:NAME"),
        ("nodes.draft.model=not a model", "nodes.draft.model: no folder 'not a model'"),
        ("nodes.draft.model=owner/absent", "is not in the cache and HF_HUB_OFFLINE is set"),
        ("nodes.draft.cores=[5000]", "nodes.draft.cores: no core 5000"),
        ("nodes.draft.device=cuda:64", "nodes.draft.device: no cuda:64"),
        ("nodes.draft.dial=tcp://absent.invalid:1", "the name 'absent.invalid' does not resolve"),
        ("nodes.draft.dial=pigeon://roof", "no transport for 'pigeon'"),
        ("nodes.verify.listen=tcp://0.0.0.0:1", "insecure = true"),
    ],
)
def test_check_finds_what_would_fail_later(file: Path, override: str, problem: str, tmp_path: Path) -> None:
    done = amusd("check", file, "--set", override, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_model_that_is_cached_is_found_and_one_that_is_not_is_a_note(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    cache = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": ""}
    cached = amusd("check", file, "--set", "nodes.draft.model=owner/name", **cache)
    assert (cached.returncode, "note:" in cached.stdout) == (0, False)
    absent = amusd("check", file, "--set", "nodes.draft.model=owner/other", **cache)
    assert absent.returncode == 0
    assert "hf download owner/other" in absent.stdout


def test_env_can_be_pasted() -> None:
    done = amusd("env", CUDA_VISIBLE_DEVICES="3")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"amusd-mp", "python", "torch", "transformers", "pyzmq", "libzmq", "system", "processor", "cores"} <= set(
        names
    )
    assert "not installed" not in done.stdout
    assert "CUDA_VISIBLE_DEVICES 3" in done.stdout.replace("  ", " ")


@pytest.mark.parametrize("arguments", [("up", "absent.toml"), ("node", "x", "--config", "absent.toml")])
def test_a_missing_file_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = amusd(*arguments)
    assert (done.returncode, done.stderr) == (2, "error: absent.toml: no such file\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    assert amusd("dance").returncode == 2


def test_what_a_client_logs_is_not_printed_into_its_text() -> None:
    program = """
import logging
from amusd_mp.cli.loop import run

async def warned():
    logging.getLogger("amusd_mp.session.link").warning("silent")

run(warned())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
