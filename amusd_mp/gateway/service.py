"""The small endpoints: models, health, version, tokens, metrics."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from amusd_mp import __version__
from amusd_mp.core.messages import StatusReport
from amusd_mp.errors import AmusdError, OperationalError
from amusd_mp.gateway.asking import turns
from amusd_mp.gateway.completions import check_model
from amusd_mp.gateway.exposition import CONTENT_TYPE, exposition
from amusd_mp.gateway.failures import UNAVAILABLE, Failure, invalid
from amusd_mp.gateway.metrics import Metrics
from amusd_mp.gateway.schema import DetokenizeRequest, TokenizeRequest, read
from amusd_mp.gateway.upstream import Upstream

VOCABULARY_END: Final = 1 << 31
"""Ids on the wire have 31 bits."""


class Service:
    """Answers about the gateway, the model and the nodes. `began` is Unix time."""

    def __init__(self, upstream: Upstream, metrics: Metrics, began: float) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._began = int(began)

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/{model}`."""
        found = self._model()
        check_model(request.path_params["model"], str(found["id"]))
        return JSONResponse(found)

    def _model(self) -> dict[str, object]:
        card = self._upstream.client.model
        return {
            "id": card.name,
            "object": "model",
            "created": self._began,
            "owned_by": "amusd-mp",
            "root": card.name,
            "parent": None,
            "max_model_len": card.max_length,
        }

    async def health(self, request: Request) -> Response:
        """`GET /health`: 200 if a token can be made, else 503 with the reason."""
        try:
            status = await self._upstream.check()
        except AmusdError as error:
            return Failure(503, f"no token can be made: {error}", UNAVAILABLE, code="unhealthy").response()
        return JSONResponse(
            {
                "status": "ok",
                "degraded": status.degraded,
                "drafts": [draft.node for draft in status.drafts],
                "sequences": status.sequences,
            }
        )

    async def version(self, request: Request) -> Response:
        """`GET /version`."""
        return JSONResponse({"version": __version__})

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`."""
        body = await read(request, TokenizeRequest)
        client = self._upstream.client
        check_model(body.model or client.model.name, client.model.name)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("send exactly one of prompt and messages", "prompt")
        messages = turns(body.messages) if body.messages is not None else None
        ids = await client.tokenize(body.prompt, messages=messages)
        return JSONResponse(
            {
                "count": len(ids),
                "max_model_len": client.model.max_length,
                "tokens": ids,
                "token_strs": list(await client.pieces(ids)) if body.return_token_strs else None,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`."""
        body = await read(request, DetokenizeRequest)
        client = self._upstream.client
        check_model(body.model or client.model.name, client.model.name)
        if not all(0 <= token < VOCABULARY_END for token in body.tokens):
            raise invalid("tokens must be non-negative integers of 31 bits", "tokens")
        return JSONResponse({"prompt": await client.detokenize(body.tokens)})

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`, for Prometheus."""
        families = self._metrics.families(self._upstream.line, await self._status())
        return PlainTextResponse(exposition(families), media_type=CONTENT_TYPE)

    async def _status(self) -> StatusReport | None:
        try:
            return await self._upstream.client.status(timeout=1.0)
        except OperationalError:
            return None
