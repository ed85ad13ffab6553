"""The tables of `docs/configuration.md`, made from the schema: key, type, default, meaning. A test keeps them true."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Literal

from pydantic.fields import FieldInfo

from amusd_mp.config.schema import SECTIONS


def table(section: str) -> str:
    """Return the Markdown table of one section of `SECTIONS`."""
    return "\n".join(_rows(section))


def _rows(section: str) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in SECTIONS[section].model_fields.items():
        yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description} |"


def _type(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return "string"
    if origin in (types.UnionType, typing.Union):
        return _type(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        return "list of integers"
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return names[typing.cast(type, annotation)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.default
    if value is None:
        return "(absent)"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
