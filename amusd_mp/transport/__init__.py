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

__all__ = [
    "Dialer",
    "Endpoint",
    "Handler",
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
    "listen",
    "scheme_of",
    "using",
]
