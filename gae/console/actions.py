"""What the buttons do, on this instance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beaker import cache as caching
from beaker.config.coerce import as_bool
from beaker.exceptions import BeakerException
from beaker.operations.purging import purge_on, purgeable
from gae.console.forms import Refused
from gae.handlers import PURGE_RECORDS, PURGE_SECONDS

__all__ = ["Actions"]

log = logging.getLogger("gae")


class Actions:
    """``stores()`` returns those whose expired records a button may remove."""

    def __init__(self, stores: Callable[[], Sequence[Any]]) -> None:
        self._stores = stores

    @property
    def may_purge(self) -> bool:
        """Whether any store here keeps expired records."""
        try:
            return bool(purgeable(self._stores()))
        except BeakerException:
            return False

    def run(self, fields: Mapping[str, str]) -> tuple[bool, str]:
        """Do what the form says. Returns whether all went well, and a sentence. Raises Refused."""
        action, region = fields.get("action"), fields.get("region", "")
        if action == "purge":
            return self._purge()
        if action == "invalidate" and region in caching.cache_regions:
            return _invalidate(region)
        raise Refused("400 Bad Request", "This page has no such button.")

    def _purge(self) -> tuple[bool, str]:
        try:
            outcome = purge_on(purgeable(self._stores()), limit=PURGE_RECORDS, deadline=PURGE_SECONDS)
        except BeakerException as error:
            log.error("console: purge: %s", error)
            return False, f"Nothing was purged: {error.code}. The log has more."
        log.info("console: purge: %d removed", outcome.total)
        told = f"{outcome.total:,} expired {'record' if outcome.total == 1 else 'records'} removed."
        if outcome.error is not None:
            log.error("console: purge: %s", outcome.error)
            return False, f"{told} Then a store failed: {outcome.error.code}. The log has more."
        return True, told if outcome.cursor is None else f"{told} There are more: press again."


def _invalidate(region: str) -> tuple[bool, str]:
    try:
        options = caching.cache_regions[region]
        # The stamp of a region in memory is this process's.
        if options.get("type", "memory") != "memory" and as_bool("region_stamp", options.get("region_stamp") or False):
            caching.invalidate_region(region)
            log.info("console: region %r: a new stamp", region)
            return True, f"Region {region} is invalidated, for every instance."
    except BeakerException as error:
        log.error("console: invalidate: %s", error)
        return False, f"Region {region} is not invalidated: {error.code}. The log has more."
    cleared, failed = 0, ""
    for cache in caching.cache_managers.values():
        if cache.tally.region != region:
            continue
        try:
            cache.clear()
            cleared += 1
        except BeakerException as error:
            log.error("console: invalidate: %s", error)
            failed = error.code
    log.info("console: region %r: %d caches cleared", region, cleared)
    if failed:
        return False, f"Region {region}: a store failed: {failed}. {cleared:,} of its caches were cleared."
    if not cleared:
        return True, f"Region {region} was not used by this instance yet: there is nothing to invalidate."
    return True, f"Region {region} is invalidated: {cleared:,} {'cache' if cleared == 1 else 'caches'} cleared."
