"""Who an end is, whom it dials and whom it admits: public keys, in the text form that ZeroMQ tools use (Z85).

A key pair names a party. Whoever dials pins the listener's public key; a listener asks `admits` at each handshake. A
transport that can prove keys (`Transport.authenticates`) then tells the other side's public key as `peer`. What a party
may do once it is in is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

KEY_CHARACTERS: Final = 40
"""Length of a key as text: 32 bytes, five characters for four bytes."""

_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

Admits = Callable[[str], bool]
"""Tells whether the party with this public key may connect now."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two halves of one party's key, as text. Never log or print `secret`."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one end needs for encrypted and authenticated connections.

    own:     this end's keys
    server:  a dialler pins this public key of the listener
    admits:  a listener's judgement of its diallers; without one it admits nobody
    """

    own: KeyPair
    server: str = ""
    admits: Admits | None = field(default=None, repr=False)


def is_key(text: str) -> bool:
    """True for the text of a key: 40 characters of Z85 that encode 32 bytes."""
    if len(text) != KEY_CHARACTERS or not set(text) <= set(_ALPHABET):
        return False
    groups = (text[start : start + 5] for start in range(0, KEY_CHARACTERS, 5))
    return all(_value(group) < 2**32 for group in groups)


def _value(group: str) -> int:
    value = 0
    for character in group:
        value = 85 * value + _ALPHABET.index(character)
    return value
