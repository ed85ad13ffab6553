"""A caller of a gateway who means it well, while others do not."""

from __future__ import annotations

import asyncio
import json
from typing import Self

import httpx
from rabble import DEADLINE, MODEL


class Honest:
    """A caller that streams one text without a pause; `wrong` is what differed from the first time, or failed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked = {"model": MODEL, "prompt": "The first", "max_tokens": 40, "temperature": 0, "stream": True}
        self._expected = ""
        self.texts = 0
        self.wrong: list[str] = []

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=DEADLINE)
        async with asyncio.timeout(DEADLINE):
            while (await self._http.get("/health")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        self._expected = await self._read()
        self._reading = asyncio.create_task(self._read_on(), name="honest")
        return self

    async def __aexit__(self, *about: object) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self._http.aclose()

    async def another_text(self) -> None:
        """Wait until one more text was begun and read; then check all of them."""
        before = self.texts
        async with asyncio.timeout(DEADLINE):
            while self.texts < before + 2 and not self._reading.done():  # noqa: ASYNC110  # tells nobody
                await asyncio.sleep(0.02)
        if self._reading.done():
            self._reading.result()
        assert not self.wrong, self.wrong[:3]

    async def nothing_left(self) -> None:
        """Wait until the verify node holds nothing but what is read here: others who left hold nothing."""
        async with asyncio.timeout(DEADLINE):
            while (await self._http.get("/health")).json()["sequences"] > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _read_on(self) -> None:
        while True:
            found = await self._read()
            self.texts += 1
            if found != self._expected:
                self.wrong.append(found)

    async def _read(self) -> str:
        text = ""
        async with self._http.stream("POST", "/v1/completions", json=self._asked) as answer:
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text += "".join(choice["text"] for choice in json.loads(line[6:]).get("choices", [{"text": line}]))
        return text
