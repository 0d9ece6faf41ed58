"""A page that shows one cached value, whose creation ends when as many requests are there as its path says."""

from __future__ import annotations

import asyncio
import json
import os

from beaker._typing import Receive, Scope, Send
from beaker.cache import Cache

KINDS = ("memory", "file", "dbm")


class Cold:
    """``/KIND/REQUESTS``: the value, and how often it was created, as JSON."""

    def __init__(self) -> None:
        self.arrived = dict.fromkeys(KINDS, 0)
        self.created = dict.fromkeys(KINDS, 0)
        self.full = {kind: asyncio.Event() for kind in KINDS}
        directory = os.environ["FRAMEWORKS_DATA"]
        self.caches = {kind: Cache("cold", type=kind, data_dir=os.path.join(directory, kind)) for kind in KINDS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, kind, requests = scope["path"].split("/")

        async def create() -> list[str]:
            self.created[kind] += 1
            await self.full[kind].wait()
            return [kind]

        self.arrived[kind] += 1
        if self.arrived[kind] == int(requests):
            self.full[kind].set()
        value = await self.caches[kind].aget("cold", createfunc=create)
        body = json.dumps([value, self.created[kind]]).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
