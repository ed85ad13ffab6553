"""Asynchronous multi-device speculative decoding, as message-passing nodes."""

__version__ = "0.1.0"
