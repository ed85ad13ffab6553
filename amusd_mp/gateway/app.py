"""The application: paths, the key at the door, and every error in one shape."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from amusd_mp.errors import AmusdError
from amusd_mp.gateway.completions import Completions
from amusd_mp.gateway.disconnection import Gone, nobody
from amusd_mp.gateway.failures import Failure, Refused, answer
from amusd_mp.gateway.live import Live
from amusd_mp.gateway.service import Service

OPEN: Final = ("/", "/health", "/version")
"""What anybody may see, key or not: the page has no data in itself."""

Endpoint = Callable[[Request], Awaitable[Response]]


def application(completions: Completions, service: Service, live: Live, key: str | None) -> Starlette:
    """Return the ASGI application. `key` None asks for none."""
    get, post = ["GET"], ["POST"]
    routes = [
        Route("/v1/models", service.models, methods=get),
        Route("/v1/models/{model:path}", service.model, methods=get),
        Route("/v1/completions", completions.completions, methods=post),
        Route("/v1/chat/completions", completions.chat, methods=post),
        Route("/tokenize", service.tokenize, methods=post),
        Route("/detokenize", service.detokenize, methods=post),
        Route("/health", service.health, methods=get),
        Route("/version", service.version, methods=get),
        Route("/metrics", service.metrics, methods=get),
        *live.routes(),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Door, key=key)] if key else [],
        exception_handlers={
            **dict.fromkeys((Refused, AmusdError, HTTPException, Exception), answer),
            **dict.fromkeys((Gone, ClientDisconnect), nobody),
        },
    )
    app.router.redirect_slashes = False  # a path is one of ours or none; a redirection would repeat the caller's Host
    return app


class Door:
    """Lets in who knows the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
            return
        message = "this server wants its API key: send the header Authorization: Bearer KEY"
        await Failure(401, message, code="invalid_api_key").response()(scope, receive, send)

    def _knows(self, connection: HTTPConnection) -> bool:
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        # The comparison's time tells nothing about the key. Headers are Latin-1 on the wire.
        return hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._key) and scheme.lower() == "bearer"
