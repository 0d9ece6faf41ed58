"""The console as a WSGI application, and its place in front of another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.crypto.keyring import KeyRing
from beaker.exceptions import ConfigError
from beaker.runtime import Runtime, current
from gae.console.actions import Actions
from gae.console.facts import Reporting, taken
from gae.console.forms import Forms, Refused
from gae.console.guard import Guard
from gae.console.history import History
from gae.console.page import Notice, render, sentence
from gae.console.style import HEADERS
from gae.console_options import ConsoleOptions

if TYPE_CHECKING:
    from gae.handlers import Verify
    from gae.settings import Settings

__all__ = ["Console", "Mounted"]

_ALLOWED = "GET, HEAD, POST"
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="Beaker console", charset="UTF-8"')


class Console:
    """The page at its root; every other address below it is not found, and nothing is said to whom the guard keeps out.

    - ``options``: who is let in.
    - ``settings``: what the application runs with; default: what the environment says, as the doctor reports it.
    - ``stores``: called when the page is shown; returns the stores whose expired records its button may remove.
    - ``ring``: returns the keys of sessions.
    - ``verify``: replaces the check of Identity-Aware Proxy's assertions.

    Raises ConfigError, code ``config.open-console``, when nobody could be let in.
    """

    def __init__(
        self,
        options: ConsoleOptions,
        *,
        settings: Settings | None = None,
        stores: Callable[[], Sequence[Any]] = tuple,
        ring: Callable[[], KeyRing | None] = lambda: None,
        runtime: Runtime | None = None,
        verify: Verify | None = None,
    ) -> None:
        if not isinstance(options, ConsoleOptions):
            raise ConfigError(
                "a console needs its options",
                option="options",
                expected="gae.console.ConsoleOptions",
                got=type(options).__name__,
            )
        self.options = options
        self.history = History()
        self._guard = Guard(options, runtime or (current() if settings is None else settings.runtime), verify)
        self._report = Reporting(settings)
        self._actions = Actions(stores)
        self._ring = ring
        self._forms = Forms(self._form_key if options.secret or ring() else None)

    def _form_key(self) -> bytes:
        # Instances agree on it, so that a form may come to another one than its page came from.
        if self.options.secret:
            return self.options.secret.encode()
        ring = self._ring()
        assert ring is not None  # or there would be no such key
        return ring.current.subkey("console")

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        self.history.note()
        status, body, extra = self._respond(environ)
        data = body.encode()
        kind = "text/html" if body.startswith("<") else "text/plain"
        headers = [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(data))), *HEADERS, *extra]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [data]

    def _respond(self, environ: Environ) -> tuple[str, str, list[tuple[str, str]]]:
        way = self._guard.way(environ)
        if way is None:
            # One response to whatever was wrong, and whatever was asked for.
            if self._guard.challenges:
                return "401 Unauthorized", "unauthorized\n", [_CHALLENGE]
            return "403 Forbidden", "forbidden\n", []
        if environ.get("PATH_INFO", "") not in ("", "/"):
            return "404 Not Found", "not found\n", []
        method = environ["REQUEST_METHOD"]
        if method not in _ALLOWED.split(", "):
            return "405 Method Not Allowed", "method not allowed\n", [("Allow", _ALLOWED)]
        notice = None
        if method == "POST":
            try:
                notice = Notice(*self._actions.run(self._forms.read(environ, way)))
            except Refused as refused:
                return refused.status, sentence(refused.status, refused.text), []
        return "200 OK", self._page(way, notice), []

    def _page(self, way: str, notice: Notice | None) -> str:
        facts = taken(
            self.history.regions(),
            self.options.prices,
            self._report(),
            self._ring,
            may_purge=self._actions.may_purge,
        )
        return render(facts, self._forms.token(way), way, notice)

    def __repr__(self) -> str:
        return f"<Console at {self.options.path}>"


class Mounted:
    """``console`` at its path and below, as the server decoded it; ``app`` everywhere else."""

    def __init__(self, app: WSGIApp, console: Console) -> None:
        self._app = app
        self._console = console
        self._path = console.options.path.rstrip("/")

    def serves(self, path: str | None) -> bool:
        """Whether ``path`` is the console's."""
        return path is not None and (path == self._path or path.startswith(f"{self._path}/"))

    def note(self) -> None:
        """A request to the application has come."""
        self._console.history.note()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not self.serves(path):
            self.note()
            return self._app(environ, start_response)
        script = environ.get("SCRIPT_NAME", "") + self._path
        return self._console({**environ, "SCRIPT_NAME": script, "PATH_INFO": path[len(self._path) :]}, start_response)
