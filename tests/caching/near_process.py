"""One process with a near tier, which does what it is told. Importable, so that spawned processes find it."""

from __future__ import annotations

from typing import Any

from beaker.cache import CacheManager

__all__ = ["serve"]


def serve(pipe: Any, time: Any, directory: str, near: float) -> None:
    """Do what comes through ``pipe`` until ``None`` comes; ``time`` is the clock of all processes."""
    options = {"type": "file", "data_dir": directory, "clock": lambda: time.value, "near": near, "region_stamp": True}
    manager = CacheManager(cache_regions={"near": options})
    cache = manager.get_cache_region("processes", "near")
    commands = {
        "get": lambda: cache.namespace.get("k"),
        "put": lambda value: cache.put("k", value, tags=("t",)),
        "remove": lambda _: cache.remove("k"),
        "clear": lambda _: cache.clear(),
        "invalidate_tags": lambda _: manager.invalidate_tags("t"),
        "invalidate_region": lambda _: manager.invalidate_region("near"),
    }
    while True:
        told = pipe.recv()
        if told is None:
            return
        name, *arguments = told
        pipe.send(commands[name](*arguments))  # type: ignore[operator]
