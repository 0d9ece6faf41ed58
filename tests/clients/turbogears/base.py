"""What TurboGears' tests import from tests.base, which its source archive leaves out."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import types
from typing import Any

from tg import AppConfig, config, request_local
from tg.configuration import milestones
from tg.renderers.json import JSONRenderer
from tg.wsgiapp import RequestLocals, TemplateContext
from webtest import TestApp

data_dir = os.path.dirname(os.path.abspath(__file__))
SESSIONS = os.path.join(data_dir, "session")
PACKAGE = types.ModuleType("tests")
PACKAGE.__file__ = __file__
SETTINGS: dict[str, Any] = {
    "buffet.template_engines": [],
    "db_engines": {},
    "debug": False,
    "default_renderer": "json",
    "i18n.lang": None,
    "package": PACKAGE,
    "package_name": "tests",
    "paths": {"root": ".", "controllers": ".", "templates": [], "static_files": None},
    "render_functions": {"json": JSONRenderer.render_json},
    "renderers": ["json"],
    "rendering_engines_options": {"json": {"content_type": "application/json"}},
    "rendering_engines_without_vars": {"json"},
    "tg.strict_tmpl_context": False,
    "use_dotted_templatenames": True,
    "use_sqlalchemy": False,
}


def utcnow() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)


def setup_session_dir() -> None:
    os.makedirs(SESSIONS, exist_ok=True)


def teardown_session_dir() -> None:
    shutil.rmtree(SESSIONS, ignore_errors=True)


def make_app(
    controller: Any = None,
    environ: Any = None,
    config_options: Any = None,
    with_errors: bool = False,
    make_app: bool = True,
) -> Any:
    def root(environ: Any, start_response: Any) -> Any:
        return controller()(environ, start_response)

    settings = AppConfig(root_controller=root, **SETTINGS)
    own = {
        "trace_errors.enable": False,
        "errorpage.enabled": with_errors,
        "errorpage.status_codes": [403, 404],
        "session.enabled": True,
        "session.data_dir": SESSIONS,
        "cache.enabled": True,
        "cache.cache_dir": os.path.join(data_dir, "cache"),
        **(config_options or {}),
    }
    for name, value in own.items():
        settings[name] = value
    return TestApp(settings.make_wsgi_app()) if make_app else settings


class TestWSGIController:
    app: Any
    environ: Any

    def setup_method(self) -> None:
        self.locals = RequestLocals()
        self.locals.tmpl_context = TemplateContext()
        request_local.context._push_object(self.locals)
        milestones._reach_all()
        config.push_process_config(SETTINGS)
        setup_session_dir()

    def teardown_method(self) -> None:
        request_local.context._pop_object(self.locals)
        config.pop_process_config()
        teardown_session_dir()
        milestones._reset_all()

    def get_response(self, _url: str = "/", **params: Any) -> Any:
        return self.app.get(_url, extra_environ=self.environ)

    def post_response(self, _url: str = "/", **params: Any) -> Any:
        return self.app.post(_url, extra_environ=self.environ, params=params)
