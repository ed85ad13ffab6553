"""The errors that callers meet, in one tree; what is more particular derives from one of these, where it is raised.

    AmusdError
    ├── UsageError                 you broke it: fix the call, the file or the flag
    │   ├── ConfigError            a config file, flag or environment value; names the key and the place
    │   ├── ModelError             a model that is missing, unsupported or does not fit; names it and the remedy
    │   └── RequestError           a request the verify node refuses (prompt too long, unknown parameter value)
    └── OperationalError           they broke it: the other side, the network, the machine
        ├── TransportError         moving bytes failed
        │   ├── AddressError       name does not resolve, port taken, path too long or in use
        │   ├── Unreachable        nobody answers at the address
        │   ├── RequestTimeout     connected, but no reply within the deadline
        │   ├── RemoteError        the peer's handler failed; the request may or may not have run
        │   └── TransportClosed    this end was closed
        ├── AccessDenied           a key, or its role, does not allow this; says whose and what would
        ├── ProtocolError          the peer speaks another protocol or sent what no honest peer sends
        ├── Mismatch               draft and verify models do not fit together; names what differs
        ├── Busy                   no room now for a sequence, a draft or a text; `retry_after` says when to try again
        ├── NotReady               the node is loading or draining
        ├── NodeFailed             a node process ended or its device hangs
        ├── GenerationTimeout      a response was not finished in time; carries what was received
        └── SequenceLost           the verify node forgot or lost the sequence; carries what was received

Messages say what is wrong, where, and what to do about it. Fields carry the same facts for programs.
"""

from __future__ import annotations


class AmusdError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(AmusdError):
    """The caller can fix this."""


class ConfigError(UsageError):
    """A configuration value is wrong. `key` is its dotted name, `source` the file, flag or variable it came from."""

    def __init__(self, message: str, *, key: str | None = None, source: str | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.source = source


class ModelError(UsageError):
    """A model cannot be used. `model` is the name it was asked for by."""

    def __init__(self, message: str, *, model: str | None = None) -> None:
        super().__init__(message)
        self.model = model


class RequestError(UsageError):
    """The verify node refuses the request as it stands. `parameter` names the offending one, if one does."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class OperationalError(AmusdError):
    """The caller did nothing wrong; the other side, the network or the machine did."""


class TransportError(OperationalError):
    """Moving bytes failed. `address` is the URL concerned."""

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class AddressError(TransportError):
    """The address itself is unusable: it does not resolve, is taken, or is malformed."""


class Unreachable(TransportError):
    """Nobody answers at the address."""


class RequestTimeout(TransportError):
    """The peer did not reply within the deadline. The request may or may not have run."""


class RemoteError(TransportError):
    """The peer's handler failed and said so."""


class TransportClosed(TransportError):
    """This end was closed while the call was waiting, or before it."""


class AccessDenied(OperationalError):
    """One side refuses the other: its key, its want of one, or what its role wanted. `address` is the URL concerned.

    No try of the same again will fare better: a key, a pin or an allow-list has to change first.
    """

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class ProtocolError(OperationalError):
    """The peer speaks another protocol version, or sent what no honest peer sends."""


class Mismatch(OperationalError):
    """Two models do not fit together. `field` names what differs, `ours` and `theirs` the two values."""

    def __init__(self, message: str, *, field: str = "", ours: str = "", theirs: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.ours = ours
        self.theirs = theirs


class Busy(OperationalError):
    """There is no room now: for another sequence, draft or text to tokenize. `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(OperationalError):
    """The node is loading or draining."""


class NodeFailed(OperationalError):
    """A node process ended on its own, or its device hangs. `node` names it, `exit_code` is set if it ended."""

    def __init__(self, message: str, *, node: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.exit_code = exit_code


class SequenceLost(OperationalError):
    """The verify node no longer has the sequence.

    `token_ids` and `text` are what had arrived: a prefix of the verify model's own output.
    """

    def __init__(self, message: str, *, sequence: str = "", token_ids: tuple[int, ...] = (), text: str = "") -> None:
        super().__init__(message)
        self.sequence = sequence
        self.token_ids = token_ids
        self.text = text


class GenerationTimeout(OperationalError, TimeoutError):
    """A response was not finished within the caller's timeout; it has been cancelled on both nodes.

    `token_ids` and `text` are what had arrived.
    """

    def __init__(self, message: str, *, token_ids: tuple[int, ...] = (), text: str = "") -> None:
        super().__init__(message)
        self.token_ids = token_ids
        self.text = text
