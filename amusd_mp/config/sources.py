"""Where configuration values come from, and which wins: flag, `--set`, environment, file (then the default).

Every value keeps its origin, so that an error can name it and a relative path resolves against the right folder. Here
keys are checked, values are not: that is the schema's work.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from amusd_mp.config.schema import SECTIONS, known_keys, wants_text
from amusd_mp.config.words import answer, nearest
from amusd_mp.errors import ConfigError

ENVIRONMENT: Final = "AMUSD_MP__"
"""Prefix of environment variables: AMUSD_MP__NODES__DRAFT__DEVICE."""

Key = tuple[str, ...]
"""("speculation", "lookahead") or ("nodes", "draft", "device")."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value with where it stood. Relative paths in it are meant from `folder`."""

    value: object
    source: str
    folder: Path


def dotted(key: Key) -> str:
    """Return a key as people write it."""
    return ".".join(key)


def problem(source: str, key: Key, text: str) -> ConfigError:
    """Return the error for a key of a source."""
    where = f"{source}: {dotted(key)}" if key else source
    return ConfigError(f"{where}: {text}", key=dotted(key) or None, source=source)


def read_file(path: Path) -> dict[str, object]:
    """Return the tables of a TOML file. Raises ConfigError naming the file and what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", source=str(path)) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", source=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", source=str(path)) from None


def flatten(tables: Mapping[str, object], source: str) -> Iterator[tuple[Key, object] | ConfigError]:
    """Yield the leaves of a file, and an error for what is no table where one belongs."""
    for table, content in tables.items():
        if not isinstance(content, Mapping):
            yield problem(source, (), _unknown((table,)) if table not in SECTIONS else f"{table} must be a table")
        elif table != "nodes":
            yield from (((table, key), value) for key, value in content.items())
            if table not in SECTIONS and not content:
                yield problem(source, (), _unknown((table,)))
        else:
            for name, node in content.items():
                if not isinstance(node, Mapping):
                    yield problem(source, ("nodes", name), "each node is a table of its own: [nodes.NAME]")
                else:
                    yield from (((table, name, key), value) for key, value in node.items())


def literal(text: str, key: Key) -> object:
    """Return a command line's or environment's value: a TOML literal, or the text itself where it is none."""
    if wants_text(key[0], key[-1]) and not text.startswith(('"', "'")):
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def from_sets(sets: Iterable[str]) -> Iterator[tuple[Key, object, str] | ConfigError]:
    """Read `--set nodes.draft.device=cuda:1`; yield an error for what has no `=`."""
    for text in sets:
        name, separator, value = text.partition("=")
        key = tuple(part.strip() for part in name.split("."))
        if not separator or not all(key):
            yield ConfigError(f"--set {text}: write KEY=VALUE, for example nodes.draft.device=cuda:1", source="--set")
            continue
        yield key, literal(value.strip(), key) if key[0] in SECTIONS else value, f"--set {text}"


def from_environment(environ: Mapping[str, str], nodes: Iterable[str]) -> Iterator[tuple[Key, object, str]]:
    """Read AMUSD_MP__... variables; a node's name is compared without case, and `_` stands for `-` too."""
    spelled = {name.lower().replace("-", "_"): name for name in nodes}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT):
            continue
        parts = variable.removeprefix(ENVIRONMENT).lower().split("__")
        if parts[0] == "nodes" and len(parts) == 3:
            parts[1] = spelled.get(parts[1], parts[1])
        key = tuple(parts)
        text = environ[variable]
        yield key, literal(text, key) if key[0] in SECTIONS else text, f"environment {variable}"


def check_key(key: Key, source: str, nodes: Iterable[str]) -> ConfigError | None:
    """Return what is wrong with a key, or None. `nodes` are the nodes that the file defines."""
    nodes = tuple(nodes)
    if key[0] not in SECTIONS:
        return problem(source, (), _unknown(key))
    depth = 3 if key[0] == "nodes" else 2
    if len(key) != depth:
        shape = "nodes.NAME.KEY" if key[0] == "nodes" else f"{key[0]}.KEY"
        return problem(source, key, f"write {shape}")
    if key[0] == "nodes" and key[1] not in nodes:
        meant = nearest(key[1], nodes)
        hint = f"did you mean {meant}?" if meant else f"nodes: {', '.join(nodes) or 'none'}"
        return problem(source, key, f"no node is named {key[1]!r}; {hint}")
    if key[-1] not in known_keys(key[0]):
        prefix = dotted(key[:-1]) + "."
        return problem(source, key, f"unknown key; {answer(key[-1], known_keys(key[0]), prefix)}")
    return None


def _unknown(key: Key) -> str:
    nearby = nearest(key[0], SECTIONS)
    if len(key) > 1 and nearby:
        return f"unknown key {dotted(key)}; did you mean {dotted((nearby, *key[1:]))}?"
    for table in SECTIONS:
        if key[0] in known_keys(table):
            place = "nodes.NAME" if table == "nodes" else table
            return f"unknown key {dotted(key)}; it belongs into the table [{place}]"
    meant = nearest(key[0], [known for table in SECTIONS for known in known_keys(table)]) if len(key) == 1 else None
    return f"unknown key {dotted(key)}; " + (f"did you mean {meant}?" if meant else answer(key[-1], SECTIONS, ""))
