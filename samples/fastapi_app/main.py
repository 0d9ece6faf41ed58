"""A FastAPI service for Cloud Run: a slow lookup in the cache, what each client has asked for in its session."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from beaker.cache import cache_region
from gae.app import compose

CLIMATES = {"Kyoto": "humid", "Lisbon": "sunny", "Oslo": "cool"}
LOOKUP_SECONDS = 1.0

service = FastAPI()


@cache_region("lookup", "climate")
async def climate(city: str) -> dict[str, Any]:
    """A slow lookup, so that a hit in the cache can be seen. Other requests are served meanwhile."""
    await asyncio.sleep(LOOKUP_SECONDS)
    return {"climate": CLIMATES[city], "at": time.time()}


@service.get("/climate/{city}")
async def show(city: str, request: Request) -> dict[str, Any]:
    """The city's climate, and which cities this client has asked for."""
    if city not in CLIMATES:
        raise HTTPException(404, "no such city")
    session: Any = request.session
    visit = session.increment("visits")
    session.add("cities", city)
    session.save()
    started = time.perf_counter()
    found = await climate(city)
    took = round(time.perf_counter() - started, 3)
    return {"city": city, **found, "seconds": took, "visit": visit, "asked": sorted(session["cities"])}


@service.post("/forget")
async def forget(request: Request) -> dict[str, bool]:
    """End this client's session."""
    session: Any = request.session
    await session.ainvalidate()
    return {"forgotten": True}


app = compose(service, regions={"lookup": {"expire": 60}})
