"""Two functions over one cache: an event says that a price changed, an HTTP function returns prices.

Both are deployed from this file, so `price` has one name and therefore one place in the store.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from typing import Any

import functions_framework

from beaker.cache import cache_region
from gae.functions import configure_cache

PRICES = {"coffee": 4.50, "honey": 7.20, "tea": 3.10}
LOOKUP_SECONDS = 1.0

configure_cache(regions={"prices": {"expire": 3600}})


@cache_region("prices")
def price(good: str) -> dict[str, Any]:
    """Stands for a slow query to a supplier; ``at`` is the time of the query."""
    time.sleep(LOOKUP_SECONDS)
    return {"good": good, "price": PRICES[good], "at": time.time()}


@functions_framework.cloud_event
def changed(event: Any) -> None:
    """A Pub/Sub message ``{"good": "tea", "action": "fill"}``; ``fill`` looks up now, ``invalidate`` when next asked.

    An event may arrive twice. Doing either twice changes nothing but a lookup, so no id is remembered.
    """
    message = read(event.data)
    if message is None:
        # Not an error: the platform would send an unreadable message again and again.
        logging.warning("event ignored: a Pub/Sub message with a known good and action was expected")
        return
    good, action = message
    if action == "fill":
        price.refresh(good)
    else:
        price.invalidate(good)


@functions_framework.http
def show(request: Any) -> Any:
    """``GET /?good=tea``: the price, and how long finding it took."""
    good = request.args.get("good", "tea")
    if good not in PRICES:
        return {"error": "no such good", "goods": sorted(PRICES)}, 404
    started = time.perf_counter()
    found = price(good)
    return {**found, "seconds": round(time.perf_counter() - started, 3)}


def read(data: Any) -> tuple[str, str] | None:
    """The good and the action a Pub/Sub message names, or ``None``."""
    try:
        message = json.loads(base64.b64decode(data["message"]["data"]))
        good, action = message["good"], message["action"]
    except (KeyError, TypeError, ValueError):
        return None
    known = isinstance(good, str) and good in PRICES and action in ("fill", "invalidate")
    return (good, action) if known else None
