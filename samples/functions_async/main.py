"""An asynchronous HTTP function that remembers its visitor in a session and its slow lookup in a cache."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import functions_framework.aio

from beaker.cache import cache_region
from gae.functions import with_session
from gae.settings import Settings

CLIMATES = {"Kyoto": "humid", "Lisbon": "sunny", "Oslo": "cool"}
LOOKUP_SECONDS = 1.0

# Read from the environment; what is written here wins over it.
settings = Settings.from_environ(regions={"lookup": {"expire": 60}})


@cache_region("lookup", "climate")
async def climate(city: str) -> dict[str, Any]:
    """A slow lookup, so that a hit in the cache can be seen; ``at`` is the time of the lookup."""
    await asyncio.sleep(LOOKUP_SECONDS)
    return {"climate": CLIMATES[city], "at": time.time()}


@functions_framework.aio.http
@with_session(settings=settings)
async def hello(request: Any) -> Any:
    """``GET /?city=Oslo``: the city's climate, and which cities this visitor has asked for."""
    city = request.query_params.get("city", "Oslo")
    if city not in CLIMATES:
        return {"error": "no such city", "cities": sorted(CLIMATES)}, 404
    session = request.session
    visit = session.increment("visits")
    session.add("cities", city)
    session.save()
    started = time.perf_counter()
    found = await climate(city)
    took = round(time.perf_counter() - started, 3)
    return {"city": city, **found, "seconds": took, "visit": visit, "asked": sorted(session["cities"])}
