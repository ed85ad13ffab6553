"""How bytes get from one node to another: the contract every transport keeps, and parts to build one from.

`contract` states what is promised and finds transports by URL scheme; `inbox` and `handlers` are the two pieces that
every transport needs and that are easy to get wrong. The transports themselves are plug-ins.
"""

from amusd_mp.transport.contract import (
    Dialer,
    Endpoint,
    Handler,
    Listener,
    Received,
    Subscription,
    Transport,
    TransportOptions,
    check_prefix,
    check_publication,
    check_request,
    dial,
    find,
    listen,
    scheme_of,
    using,
)
from amusd_mp.transport.credentials import Credentials, KeyPair, is_key

__all__ = [
    "Credentials",
    "Dialer",
    "Endpoint",
    "Handler",
    "KeyPair",
    "Listener",
    "Received",
    "Subscription",
    "Transport",
    "TransportOptions",
    "check_prefix",
    "check_publication",
    "check_request",
    "dial",
    "find",
    "is_key",
    "listen",
    "scheme_of",
    "using",
]
