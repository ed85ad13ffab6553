"""Errors as OpenAI's clients expect them: a status and {"error": {message, type, param, code}}, whatever went wrong."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from amusd_mp.errors import AmusdError, Busy, GenerationTimeout, OperationalError, RequestError

log = logging.getLogger(__name__)

INVALID: Final = "invalid_request_error"
UNAVAILABLE: Final = "service_unavailable"
TOO_LONG: Final = "context_length_exceeded"

LONGEST: Final = 1000
"""Characters of a message, which may repeat what the caller wrote: an answer stays far shorter than a request."""

_BY_STATUS: Final = {
    401: (INVALID, "invalid_api_key"),
    404: (INVALID, "not_found"),
    405: (INVALID, "method_not_allowed"),
    413: (INVALID, "request_too_large"),
    415: (INVALID, "unsupported_media_type"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One error as it is sent. `param` names the request's parameter at fault."""

    status: int
    message: str
    kind: str = INVALID
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    def body(self) -> dict[str, object]:
        """Return the JSON object."""
        param = _sendable(self.param) if self.param is not None else None
        error = {"message": _sendable(self.message), "type": self.kind, "param": param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """Return the whole answer."""
        headers = {"Retry-After": f"{max(1, round(self.retry_after))}"} if self.retry_after is not None else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def _sendable(text: str) -> str:
    """Return a text that fits into an answer: JSON may name halves of characters, which UTF-8 has none for."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


class Refused(Exception):
    """A request that is answered with a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """Return the refusal of a request that is wrong as it stands."""
    return Refused(Failure(400, message, INVALID, param, code))


def failure_of(error: Exception) -> Failure:
    """Return what an exception is to the caller."""
    match error:
        case Refused():
            return error.failure
        case RequestError():
            too_long = error.parameter == "prompt" and "takes at most" in str(error)
            return Failure(400, str(error), INVALID, error.parameter, TOO_LONG if too_long else None)
        case Busy():
            return Failure(429, str(error), "rate_limit_error", code="busy", retry_after=error.retry_after)
        case GenerationTimeout():
            return Failure(504, str(error), "timeout_error", code="timeout")
        case OperationalError():
            return Failure(503, str(error), UNAVAILABLE, code=type(error).__name__, retry_after=1.0)
        case AmusdError():
            return Failure(400, str(error))
        case HTTPException():
            kind, code = _BY_STATUS.get(error.status_code, (INVALID, None))
            return Failure(error.status_code, error.detail, kind, code=code)
        case _:
            log.error("a request failed", exc_info=error)
            return Failure(500, "the gateway failed; its log says more", "server_error", code="internal_error")


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose handling raised. A path or method that is none is explained."""
    failure = failure_of(error)
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        what = "no such path" if error.status_code == 404 else "this path does not take that method"
        failure = Failure(
            error.status_code, f"{request.method} {request.scope['path']}: {what}", failure.kind, code=failure.code
        )
    response = failure.response()
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response
