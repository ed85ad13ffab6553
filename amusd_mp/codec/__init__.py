"""Messages to bytes and back. `envelope` packs and unpacks, `validation` says what may arrive."""

from amusd_mp.codec.envelope import DecodeError, OtherProtocol, UnknownType, decode, encode, holds_all

__all__ = ["DecodeError", "OtherProtocol", "UnknownType", "decode", "encode", "holds_all"]
