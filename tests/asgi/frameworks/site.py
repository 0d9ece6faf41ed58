"""The site that a server serves: each application behind our middleware, and checked, and a page of a cold cache."""

from __future__ import annotations

import os
from typing import Any

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import SessionMiddleware
from tests.asgi.conformance import Checked
from tests.asgi.frameworks.applications import BUILDERS
from tests.asgi.frameworks.cold import Cold

KEY = "hH3xq0bJw2kNnR8sT5vYzA7cEfGiKmPo9rUtXwZyB1d"
KINDS = ("memory", "file", "cookie", "hybrid")


class Site:
    """``/KIND/FRAMEWORK/PAGE`` and ``/cold/KIND/REQUESTS``; ``/violations`` lists what the conformance check has found.

    Every lifespan ends well.
    """

    def __init__(self) -> None:
        data = os.environ["FRAMEWORKS_DATA"]
        self.checked: dict[tuple[str, str], Checked] = {}
        self.cold = Cold()
        for kind in KINDS:
            options: dict[str, Any] = {"type": kind, "secret": KEY}
            if kind in ("file", "hybrid"):
                options["data_dir"] = os.path.join(data, kind)
            if kind == "hybrid":
                options["store"] = "file"
            for name, build in BUILDERS.items():
                self.checked[kind, name] = Checked(SessionMiddleware(build(), **options))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["path"] == "/violations":
            found = [f"{key}: {text}" for key, checked in self.checked.items() for text in checked.found]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": "\n".join(found).encode()})
        elif scope["path"].startswith("/cold/"):
            await self.cold({**scope, "path": scope["path"].removeprefix("/cold")}, receive, send)
        else:
            _, kind, framework, page = scope["path"].split("/", 3)
            inner = {**scope, "path": f"/{page}", "raw_path": f"/{page}".encode()}
            await self.checked[kind, framework](inner, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    message: Message = await receive()
    while message["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
        message = await receive()
    await send({"type": "lifespan.shutdown.complete"})
