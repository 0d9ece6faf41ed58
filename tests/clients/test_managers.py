"""Third parties' managers from PyPI, unmodified, on the installed wheel of this checkout and a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.environments import APPS, Client
from tests.servers import RedisServer


def test_redis_managers(
    client: Callable[[str], Client], redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """beaker-redis 1.1.0 and beakeredis 0.1.0: sessions, cached functions, caches."""
    shutil.copy(APPS / "redis_managers.py", tmp_path)
    monkeypatch.setenv("REDIS_ADDRESS", redis_server.address)
    told = client("redis").pytest(tmp_path / "redis_managers.py", cwd=tmp_path)
    assert told.startswith("6 passed"), told
