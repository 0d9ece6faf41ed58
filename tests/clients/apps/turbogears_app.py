"""TurboGears applications, minimal and full-stack, with sessions and caches on, under a real server."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import tg
from serving import served
from tg import FullStackApplicationConfigurator, MinimalApplicationConfigurator, TGController, expose
from tg.configurator.components.caching import CachingConfigurationComponent
from tg.configurator.components.session import SessionConfigurationComponent
from tg.decorators import cached

KEY = "K2l9ZgT8v5mQwXy0Rj3uBn7sPd1fHc6e"
calls = count(1)


class Root(TGController):  # type: ignore[misc]
    @expose()
    def visit(self) -> str:
        tg.session["visits"] = tg.session.get("visits", 0) + 1
        tg.session.save()
        return str(tg.session["visits"])

    @expose()
    @cached(expire=60)
    def slow(self) -> str:
        return f"call {next(calls)}"

    @expose()
    def stored(self, key: str) -> str:
        cache = tg.cache.get_cache("words", expire=60)
        return str(cache.get_value(key=key, createfunc=lambda: f"{key} {next(calls)}"))

    @expose()
    def beside(self, id: str | None = None) -> str:
        other = tg.request.environ["beaker.get_session"](id)
        other["n"] = other.get("n", 0) + 1
        other.save()
        return f"{other.id} {other['n']}"

    @expose()
    def leave(self) -> str:
        tg.session.delete()
        return "left"


def application(full: bool, **settings: Any) -> Any:
    configurator: Any = FullStackApplicationConfigurator() if full else MinimalApplicationConfigurator()
    if not full:
        configurator.register(SessionConfigurationComponent)
        configurator.register(CachingConfigurationComponent)
    else:
        configurator.update_blueprint({"package": tg, "renderers": ["json"], "default_renderer": "json"})
    configurator.update_blueprint(
        {"root_controller": Root(), "session.enabled": True, "cache.enabled": True, **settings}
    )
    return configurator.make_wsgi_app({"debug": False}, {})


@pytest.mark.parametrize("full", [False, True], ids=["minimal", "full-stack"])
@pytest.mark.parametrize("kind", ["file", "cookie", "memory"])
def test_visits(full: bool, kind: str, tmp_path: Path) -> None:
    """Sessions last over requests and end, a session beside the visitor's is found by its id, caches cache."""
    settings = {"session.type": kind, "session.key": "gears", "session.data_dir": str(tmp_path / "sessions")}
    settings |= {"session.validate_key" if kind == "cookie" else "session.secret": KEY, "cache.type": "file"}
    with served(application(full, **settings, **{"cache.data_dir": str(tmp_path / "cache")})) as browser:
        one, other = browser(), browser()
        assert [one.get("/visit"), one.get("/visit"), other.get("/visit")] == ["1", "2", "1"]
        assert one.get("/slow") == other.get("/slow")
        assert one.get("/stored?key=a") == other.get("/stored?key=a") != one.get("/stored?key=b")
        if kind != "cookie":
            id, number = one.get("/beside").split()
            assert number == "1"
            assert other.get(f"/beside?id={id}") == f"{id} 2"
        assert one.get("/leave") == "left"
        assert one.get("/visit") == "1"
        assert other.get("/visit") == "2"
