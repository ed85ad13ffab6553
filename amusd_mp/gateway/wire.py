"""HTTP/1.1 as uvicorn speaks it, where the peer does not: what cannot be read is refused in OpenAI's shape, too.

uvicorn would answer in plain text, and fail where an answer has gone out already: a request refused by its head alone,
whose body then turns out to be no HTTP.
"""

from __future__ import annotations

import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from amusd_mp.gateway.failures import Failure


class Wire(H11Protocol):
    """One connection."""

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP, once; then end the connection, and the request whose body they were to be."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(Failure(400, "this is not HTTP/1.1", code="invalid_http").body()).encode()
            head = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
            for event in (
                h11.Response(status_code=400, headers=head, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
