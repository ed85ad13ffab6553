"""Read a deployment: merge the sources, check every key, then every value, then what spans nodes.

All problems are collected, because a file is mended faster when they are told at once; `load_deployment` raises the
first and counts the rest, `amusd-mp check` prints them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from amusd_mp.config import urls
from amusd_mp.config.deployment import Deployment
from amusd_mp.config.rules import problems_between
from amusd_mp.config.schema import (
    DEFAULT_HTTP,
    DEFAULT_LISTEN,
    GATEWAY,
    SECTIONS,
    VERIFY,
    NodeConfig,
    SecurityConfig,
    SpeculationConfig,
)
from amusd_mp.config.sources import (
    Key,
    Value,
    check_key,
    flatten,
    from_environment,
    from_sets,
    problem,
    read_file,
)
from amusd_mp.core.limits import IDENTIFIER
from amusd_mp.errors import ConfigError

NODE_NAME: Final = re.compile("[a-z0-9_-]+")

_URLS = ("listen", "address", "dial")
_FILES = (("nodes", "key"), ("security", "allow"), ("security", "client_key"))

DEFAULTS: Final[Mapping[object, str]] = {VERIFY: DEFAULT_LISTEN, GATEWAY: DEFAULT_HTTP}
"""What nodes of a role bind when the file does not say."""


def load_deployment(
    path: str | Path,
    sets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
) -> Deployment:
    """Return the deployment of a file.

    `sets` are `KEY=VALUE` overrides, `flags` maps dotted keys to values of explicit flags (None: not given). Flags win
    over sets, sets over `environ`, that over the file. Raises ConfigError naming the source and the key.
    """
    deployment, problems = examine(path, sets, environ, flags)
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more; `amusd-mp check {path}` lists them)" if len(problems) > 1 else ""
        raise ConfigError(f"{first}{more}", key=first.key, source=first.source)
    assert deployment is not None
    return deployment


def examine(
    path: str | Path,
    sets: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, object] | None = None,
) -> tuple[Deployment | None, list[ConfigError]]:
    """Return the deployment, if the file gives one, and every problem found. Raises nothing."""
    path, sets = Path(path), tuple(sets)
    try:
        tables = read_file(path)
    except ConfigError as error:
        return None, [error]
    values, problems = _merge(tables, path, sets, environ, flags or {})
    sections: dict[Key, dict[str, object]] = {("speculation",): {}, ("security",): {}}
    for name in _node_names(tables):
        sections[("nodes", name)] = {}
        if not NODE_NAME.fullmatch(name) or len(name) > IDENTIFIER:
            problems.append(
                problem(str(path), ("nodes", name), f"name nodes with at most {IDENTIFIER} of a-z, 0-9, - and _")
            )
    for key, value in values.items():
        try:
            sections[key[:-1]][key[-1]] = _resolved(key, value, environ)
        except ValueError as error:
            problems.append(problem(value.source, key, str(error)))
    built = {key: _build(SECTIONS[key[0]], key, content, values, path, problems) for key, content in sections.items()}
    if problems:
        return None, problems
    nodes = {key[1]: node for key, node in built.items() if isinstance(node, NodeConfig)}
    speculation, security = built[("speculation",)], built[("security",)]
    assert isinstance(speculation, SpeculationConfig)
    assert isinstance(security, SecurityConfig)
    deployment = Deployment(nodes, speculation.rule(), security, path.resolve(), sets)
    return deployment, [problem(_source(values, key, path), key, text) for key, text in problems_between(deployment)]


def _merge(
    tables: Mapping[str, object],
    path: Path,
    sets: tuple[str, ...],
    environ: Mapping[str, str],
    flags: Mapping[str, object],
) -> tuple[dict[Key, Value], list[ConfigError]]:
    """Return the winning value of every key that is ours, and what was wrong with the others."""
    nodes = _node_names(tables)
    values: dict[Key, Value] = {}
    problems: list[ConfigError] = []
    layered: list[tuple[Key, Value]] = []
    for leaf in flatten(tables, str(path)):
        if isinstance(leaf, ConfigError):
            problems.append(leaf)
        else:
            layered.append((leaf[0], Value(leaf[1], str(path), path.resolve().parent)))
    here = Path.cwd()
    layered += [(key, Value(value, source, here)) for key, value, source in from_environment(environ, nodes)]
    for override in from_sets(sets):
        if isinstance(override, ConfigError):
            problems.append(override)
        else:
            layered.append((override[0], Value(override[1], override[2], here)))
    for name, value in flags.items():
        if value is not None:
            key = tuple(name.split("."))
            layered.append((key, Value(value, "--" + key[-1].replace("_", "-"), here)))
    for key, entry in layered:
        wrong = check_key(key, entry.source, nodes)
        if wrong:
            problems.append(wrong)
        else:
            values[key] = entry
    return values, problems


def _node_names(tables: Mapping[str, object]) -> tuple[str, ...]:
    nodes = tables.get("nodes")
    return (
        tuple(name for name, node in nodes.items() if isinstance(node, Mapping)) if isinstance(nodes, Mapping) else ()
    )


def _resolved(key: Key, value: Value, environ: Mapping[str, str]) -> object:
    """Return a value with its relative paths made absolute. Raises ValueError for an unusable URL."""
    given = value.value
    if isinstance(given, str) and (key[0], key[-1]) in _FILES:
        return os.path.normpath(value.folder / Path(given).expanduser())
    if key[0] != "nodes" or not isinstance(given, str):
        return given
    if key[-1] in _URLS and (key[-1] != "dial" or "://" in given):
        return urls.resolve(given, value.folder, environ)
    if key[-1] == "model" and not given.startswith("bundled:"):
        folder = value.folder / Path(given).expanduser()
        if given.startswith((".", "~")) or folder.is_dir():
            return os.path.normpath(folder)
    return given


def _build(
    kind: type[BaseModel],
    key: Key,
    content: dict[str, object],
    values: Mapping[Key, Value],
    path: Path,
    problems: list[ConfigError],
) -> BaseModel | None:
    """Return one table as its type, or None after adding what is wrong with it to `problems`."""
    if kind is NodeConfig and content.get("role") in DEFAULTS:
        content.setdefault("listen", DEFAULTS[content["role"]])
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        for entry in error.errors():
            full = (*key, str(entry["loc"][0])) if entry["loc"] else key
            text = "is missing" if entry["type"] == "missing" else _plain(entry["msg"], entry["input"])
            wrong = problem(_source(values, full, path), full, text)
            if str(wrong) not in [str(other) for other in problems]:
                problems.append(wrong)
        return None


def _plain(message: str, value: object) -> str:
    text = message.removeprefix("Value error, ")
    if text == message:  # pydantic's own words do not repeat the value
        text = f"{text[:1].lower()}{text[1:]}, not {value!r}"
    return text


def _source(values: Mapping[Key, Value], key: Key, path: Path) -> str:
    return values[key].source if key in values else str(path)
