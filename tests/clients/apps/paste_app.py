"""The session middleware in PasteDeploy's INI files, as a filter, in a pipeline, and as a filter-app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paste.deploy import loadapp
from webtest import TestApp

INI = """
[app:shop]
paste.app_factory = paste_app:factory

[filter:by-egg]
use = egg:beaker-gae#beaker_session
beaker.session.key = shop
beaker.session.type = file
beaker.session.data_dir = %(here)s/data
beaker.session.webtest_varname = session

[filter:by-path]
paste.filter_factory = beaker.middleware:session_filter_factory
session.type = memory

[pipeline:by-egg-app]
pipeline = by-egg shop

[pipeline:by-path-app]
pipeline = by-path shop

[filter-app:wrapped]
use = egg:beaker-gae#beaker_session
next = shop
session.type = memory
"""


def factory(global_conf: Any, **local_conf: Any) -> Any:
    def shop(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["visits"] = session.get("visits", 0) + 1
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % session["visits"]]

    return shop


@pytest.mark.parametrize("name", ["by-egg-app", "by-path-app", "wrapped"])
def test_an_ini_file(name: str, tmp_path: Path) -> None:
    """Each way of naming the filter gives an application with sessions."""
    (tmp_path / "app.ini").write_text(INI)
    app = TestApp(loadapp(f"config:{tmp_path}/app.ini", name=name))
    assert [app.get("/").text, app.get("/").text] == ["1", "2"]
    if name == "by-egg-app":
        assert app.get("/").session["visits"] == 3
        assert list(app.cookies) == ["shop"]
