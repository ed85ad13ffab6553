"""`amusd-mp env`: what a bug report needs to say about the machine, ready to paste. Imports none of what it names."""

from __future__ import annotations

from collections.abc import Iterator


def command() -> None:
    """Print versions, processor, GPUs and the settings that matter, to paste into an issue."""
    import typer

    for key, value in facts():
        typer.echo(f"{key:<14} {value}")


def facts() -> Iterator[tuple[str, str]]:
    """Yield what there is to tell, as names and values. Reads no credential."""
    import os
    import platform
    import sys

    from amusd_mp import __version__
    from amusd_mp.cli.inspection import list_gpus
    from amusd_mp.node import known_roles
    from amusd_mp.node.binding import VISIBLE, allowed_cores

    yield "amusd-mp", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()}) {sys.executable}"
    for package in ("torch", "transformers", "tokenizers", "safetensors", "pyzmq", "msgpack", "pydantic"):
        yield package, package_version(package)
    yield "libzmq", libzmq_version()
    yield "system", platform.platform()
    yield "processor", processor()
    cores = allowed_cores()
    allowed = f", allowed {', '.join(map(str, sorted(cores)))}" if cores is not None else ""
    yield "cores", f"{os.cpu_count()}{allowed}"
    gpus = list_gpus()
    for number, gpu in enumerate(gpus):
        yield f"gpu {number}", gpu
    if not gpus:
        yield "gpu", "none (nvidia-smi is absent or shows none)"
    yield "roles", ", ".join(known_roles())
    for variable in (VISIBLE, "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "NO_COLOR"):
        if variable in os.environ:
            yield variable, os.environ[variable]


def package_version(package: str) -> str:
    """Return an installed version without importing the package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def libzmq_version() -> str:
    """Return the version of the C library behind pyzmq, asked of another interpreter."""
    import subprocess
    import sys

    ask = [sys.executable, "-c", "import zmq; print(zmq.zmq_version())"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not installed"


def processor() -> str:
    """Return the CPU's model name, as far as the system tells."""
    import platform
    from pathlib import Path

    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
