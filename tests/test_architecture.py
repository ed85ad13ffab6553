"""Rule: who imports whom is as the tree promises, in the source and in a fresh interpreter."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tree import SOURCES, python

CORE_MAY_USE = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq"),
    *("itertools", "math", "operator", "types", "typing"),
}
"""The standard library's data types: nothing with a clock, a socket, a thread, chance or a log."""

TRANSPORT_CONTRACT = {
    "amusd_mp.errors",
    "amusd_mp.transport",
    "amusd_mp.transport.contract",
    "amusd_mp.transport.credentials",
    "amusd_mp.transport.inbox",
    "amusd_mp.transport.handlers",
}
"""All that a transport may know of the framework; none of it knows messages."""

SERVER_LIBRARIES = {"starlette", "uvicorn", "sse_starlette"}
"""What `amusd-mp[server]` brings: absent from a plain install."""

MODEL_LIBRARIES = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub"}


# ------------------------------------------------------------------------------- the import graph


@dataclass(frozen=True)
class Import:
    """One import statement: `module` imports `target`, when it is loaded or (`late`) inside a function."""

    module: str
    target: str
    late: bool
    line: int

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def imports_of(module: str, path: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, late, child.lineno)
            elif isinstance(child, ast.ImportFrom):
                base = importlib.util.resolve_name("." * child.level + (child.module or ""), package)
                for alias in child.names:
                    named = f"{base}.{alias.name}"
                    yield Import(module, named if named in SOURCES else base, late, child.lineno)
            yield from walk(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    yield from walk(ast.parse(path.read_text("utf-8"), str(path)), False)


IMPORTS = [each for module, path in SOURCES.items() for each in imports_of(module, path)]


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def offenders(found: Iterator[Import]) -> list[str]:
    return [str(each) for each in found]


def test_the_walk_sees_what_it_should() -> None:
    assert {"amusd_mp.core.messages", "amusd_mp.transports", "amusd_mp.nodes", "amusd_mp.codec"} <= set(SOURCES)
    assert any(each.module == "amusd_mp.codec.envelope" and each.target == "amusd_mp.core.messages" for each in IMPORTS)


def test_the_core_uses_data_types_and_itself_only() -> None:
    core = [each for each in IMPORTS if inside(each.module, "amusd_mp.core")]
    assert core
    assert not offenders(
        each for each in core if each.top not in CORE_MAY_USE and not inside(each.target, "amusd_mp.core")
    )


def test_only_the_engine_imports_model_libraries() -> None:
    assert not offenders(
        each for each in IMPORTS if each.top in MODEL_LIBRARIES and not inside(each.module, "amusd_mp.engine")
    )


def test_the_engine_knows_no_network_and_no_message() -> None:
    allowed = ("amusd_mp.core", "amusd_mp.engine", "amusd_mp.errors", "amusd_mp.runtime")
    engine = [each for each in IMPORTS if inside(each.module, "amusd_mp.engine")]
    assert engine
    assert not offenders(each for each in engine if each.top == "amusd_mp" and not inside(each.target, *allowed))
    assert not offenders(each for each in engine if each.target == "amusd_mp.core.messages")
    assert not offenders(each for each in engine if each.top in {"asyncio", "zmq", "socket"})


def test_the_engine_is_loaded_by_nodes_alone_and_by_others_only_inside_a_function() -> None:
    assert not offenders(
        each
        for each in IMPORTS
        if inside(each.target, "amusd_mp.engine")
        and not each.late
        and not inside(each.module, "amusd_mp.engine", "amusd_mp.nodes", "amusd_mp.bench")
    )


def test_a_transport_knows_bytes_only() -> None:
    used = [each for each in IMPORTS if inside(each.module, "amusd_mp.transports") and each.top == "amusd_mp"]
    assert not offenders(
        each
        for each in used
        if not inside(each.target, "amusd_mp.transports") and each.target not in TRANSPORT_CONTRACT
    )


def test_what_transports_stand_on_knows_no_message_either() -> None:
    assert set(SOURCES) >= TRANSPORT_CONTRACT
    assert not offenders(
        each
        for each in IMPORTS
        if each.module in TRANSPORT_CONTRACT and each.top == "amusd_mp" and each.target not in TRANSPORT_CONTRACT
    )


def test_zeromq_stays_behind_the_transport_contract() -> None:
    assert not offenders(
        each for each in IMPORTS if each.top == "zmq" and not inside(each.module, "amusd_mp.transports")
    )


def test_the_gateway_is_an_application_of_the_client() -> None:
    """It may know what the client hands out, and nothing of how that came: no transport, session, node or engine."""
    allowed = ("amusd_mp.client", "amusd_mp.core", "amusd_mp.errors", "amusd_mp.gateway", "amusd_mp.runtime")
    gateway = [each for each in IMPORTS if inside(each.module, "amusd_mp.gateway")]
    assert gateway
    assert not offenders(
        each
        for each in gateway
        if each.top == "amusd_mp"
        and each.target not in ("amusd_mp", "amusd_mp.tasks")
        and not inside(each.target, *allowed)
    )


def test_only_the_gateway_needs_the_server_packages() -> None:
    assert not offenders(
        each for each in IMPORTS if each.top in SERVER_LIBRARIES and not inside(each.module, "amusd_mp.gateway")
    )
    assert not offenders(
        each
        for each in IMPORTS
        if inside(each.target, "amusd_mp.gateway") and not inside(each.module, "amusd_mp.gateway") and not each.late
        if not is_for_types(each)
    )


def is_for_types(each: Import) -> bool:
    """True for an import that only a type checker reads."""
    tree = ast.parse(SOURCES[each.module].read_text("utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return any(node.lineno < each.line <= (node.end_lineno or 0) for node in blocks)


def test_the_framework_names_no_plug_in() -> None:
    """The entry points' group names are the only legal mention, in code and in strings; a module below them is not."""
    plug_in = re.compile(r"\bamusd_mp\.(transports|nodes)\.\w")
    framework = [each for each in SOURCES if not inside(each, "amusd_mp.transports", "amusd_mp.nodes")]
    assert not offenders(
        each
        for each in IMPORTS
        if each.module in framework
        and inside(each.target, "amusd_mp.transports", "amusd_mp.nodes", "transports", "nodes")
    )
    for module in framework:
        for node in ast.walk(ast.parse(SOURCES[module].read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not plug_in.search(node.value), f"{module}:{node.lineno} names a plug-in"


# ------------------------------------------------------------------------------- in a fresh interpreter


def loaded_by(*modules: str) -> set[str]:
    """Top-level names in sys.modules after importing `modules` elsewhere than in the repository."""
    script = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = python("-c", script, cwd=Path(sys.prefix))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_loads_no_model_library_and_no_network() -> None:
    assert not loaded_by("amusd_mp") & {*MODEL_LIBRARIES, "zmq"}


def test_client_launcher_and_command_line_load_no_model_library() -> None:
    outer = ("amusd_mp.client", "amusd_mp.launcher", "amusd_mp.cli", "amusd_mp.codec", "amusd_mp.config")
    assert not loaded_by(*outer) & MODEL_LIBRARIES


def test_whether_a_name_can_be_a_model_is_known_without_a_model_library() -> None:
    assert not loaded_by("amusd_mp.engine", "amusd_mp.engine.source") & MODEL_LIBRARIES


@pytest.mark.parametrize("name", ["transports", "nodes", "configs"])
def test_plug_in_folders_are_refused_under_their_bare_name(name: str) -> None:
    done = python("-c", f"import {name}")
    assert done.returncode != 0
    assert f"import amusd_mp.{name}, not {name}" in done.stderr
