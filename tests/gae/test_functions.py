# over 320 lines because the decorator is run in every way functions-framework has
"""Sessions and caches in HTTP functions, under functions-framework and gunicorn."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.wsgi import FileWrapper

from beaker.cache import cache_region, cache_regions
from beaker.exceptions import BeakerWarning, ConfigError, StoreUnavailable
from beaker.runtime import Runtime
from gae.functions import configure_cache, with_session
from gae.settings import Settings
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"


def client_of(function: Callable[[Any], Any]) -> Any:
    """What functions-framework does with an HTTP function, as a test client that keeps cookies."""
    app = flask.Flask("function")
    app.add_url_rule("/", "run", lambda: function(flask.request), methods=["GET", "POST"])
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app.test_client()


def counting(request: Any) -> Any:
    session = request.environ["beaker.session"]
    session["n"] = session.get("n", 0) + 1
    session.save()
    return str(session["n"])


def test_a_function_remembers_its_visitor() -> None:
    """The second call sees what the first saved; the headers say that the response is private."""
    client = client_of(with_session(type="memory", secret=KEY)(counting))
    first = client.get("/")
    assert (first.text, client.get("/").text) == ("1", "2")
    assert "HttpOnly" in first.headers["Set-Cookie"]
    assert "Cookie" in first.headers["Vary"]
    assert first.headers["Cache-Control"] == "private, no-store"


def test_headers_of_the_function_are_completed() -> None:
    """Vary and Cache-Control keep what the function said, without what contradicts a private response."""

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        counting(request)
        return "x", 201, {"Vary": "Accept", "Cache-Control": "public, max-age=5", "X-Own": "1"}

    answer = client_of(function).get("/")
    assert answer.status_code == 201
    assert answer.headers["Vary"] == "Accept, Cookie"
    assert answer.headers["Cache-Control"] == "max-age=5, private, no-store"
    assert answer.headers["X-Own"] == "1"
    assert answer.headers.getlist("Content-Length") == ["1"]


@pytest.mark.parametrize("body", ["text", "stream"])
def test_server_timing_is_on_the_response(body: str) -> None:
    """With ``server_timing`` the response says what the request cost, the session's save included."""

    @with_session(type="memory", secret=KEY, server_timing=True)
    def function(request: Any) -> Any:
        answer = counting(request)
        return answer if body == "text" else flask.Response(iter([answer]))

    client = client_of(function)
    assert client.get("/").headers["Server-Timing"].startswith("beaker-memory;desc=")
    assert client.get("/").headers.getlist("Server-Timing") == ['beaker-memory;desc="1 read, 1 write"']
    plain = client_of(with_session(type="memory", secret=KEY)(counting))
    assert "Server-Timing" not in plain.get("/").headers


def test_the_request_log_counts_on_where_server_timing_ends(caplog: pytest.LogCaptureFixture) -> None:
    """The header tells of what was done before it; the line at the request's end of what its stream did, too."""

    @with_session(type="memory", secret=KEY, server_timing=True)
    def function(request: Any) -> Any:
        counting(request)
        session = request.environ["beaker.session"]

        def stream() -> Iterator[str]:
            yield "early"
            session["n"] += 1
            session.save()
            yield str(session["n"])

        return flask.Response(stream())

    caplog.set_level("DEBUG", "gae.logs.requests")
    client = client_of(function)
    client.get("/").close()
    caplog.clear()
    with client.get("/") as response:
        assert response.headers["Server-Timing"] == 'beaker-memory;desc="1 read, 1 write"'
        assert response.text == "early3"
    (line,) = (record.getMessage() for record in caplog.records if record.name == "gae.logs.requests")
    assert line == 'what this request cost: beaker-memory;desc="1 read, 2 writes"'


def test_an_untouched_session_changes_nothing() -> None:
    """No cookie, no Vary."""
    answer = client_of(with_session(type="memory", secret=KEY)(lambda request: "x")).get("/")
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in answer.headers


def test_a_failing_function_saves_nothing() -> None:
    """An exception ends the request without a cookie and leaves the stored session as it was."""
    fail = False

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> str:
        answer = counting(request)
        if fail:
            raise RuntimeError("broken")
        return str(answer)

    client = client_of(function)
    assert client.get("/").text == "1"
    fail = True
    answer = client.get("/")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (500, False)
    fail = False
    assert client.get("/").text == "2"


@pytest.mark.parametrize(
    "end", ["returns", "raises", "streams", "raises in its stream", "raises when closed", "aborts"]
)
def test_a_lock_ends_with_the_request(end: str) -> None:
    """A session lock that the function did not release is released when its request is over, however it ended."""
    locked: list[str] = []

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]
        session["n"] = 1
        session.save()
        if request.method == "GET":
            return "saved"
        session.lock(timeout=0)
        locked.append(end)
        if end == "raises":
            raise ZeroDivisionError
        if end == "aborts":
            flask.abort(404)
        return "done" if end == "returns" else flask.Response(stream())

    def stream() -> Iterator[bytes]:
        try:
            yield b"1"
            if end == "raises in its stream":
                raise ZeroDivisionError
            yield b"2"
        finally:
            if end == "raises when closed":
                raise ZeroDivisionError

    client = client_of(function)
    client.get("/")
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError), client.post("/", buffered=False) as answer:
            assert answer.status_code == {"raises": 500, "aborts": 404}.get(end, 200)
            # A visitor who leaves early has the server close what is not finished.
            assert end in ("raises", "aborts", "raises when closed") or answer.data in (b"done", b"12")
    assert locked == [end, end]


class BareFile:
    """A server's own file wrapper that takes no attributes, as mod_wsgi's."""

    __slots__ = ("file",)

    def __init__(self, file: Any, size: int = 0) -> None:
        self.file = file

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.file.read()
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("wrapper", [None, FileWrapper, BareFile])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=1-2"}])
def test_a_lock_ends_with_a_file_that_is_sent(
    method: str, wrapper: Any, asked: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sending a file, which the server closes itself, ends the request once: locks, late changes and its log line."""
    path = tmp_path / "file"
    path.write_bytes(b"file")
    caplog.set_level("DEBUG", "gae.logs.requests")

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]
        session["n"] = session.get("n", 0) + 1
        session.save()
        if "file" not in request.args:
            return str(session["n"])
        session.lock(timeout=0)
        return flask.send_file(path, conditional=True)

    offered = {} if wrapper is None else {"wsgi.file_wrapper": wrapper}
    client = client_of(function)
    client.get("/")
    for _ in range(2):
        caplog.clear()
        with client.open("/?file=", method=method, headers=asked, environ_overrides=offered) as answer:
            assert answer.data == (b"" if method == "HEAD" else b"il" if asked else b"file")
        assert [record.name for record in caplog.records].count("gae.logs.requests") == 1
    assert client.get("/").text == "4"


def test_abort_is_an_answer_and_keeps_the_session() -> None:
    """A redirect raised by abort() saves and sends the cookie; a handler of the app runs first."""

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        counting(request)
        if request.args.get("status") == "404":
            flask.abort(404)
        flask.abort(flask.redirect("/elsewhere", 303))

    client = client_of(function)
    client.application.register_error_handler(404, lambda error: ("mine", 404))
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/elsewhere")
    assert "Set-Cookie" in answer.headers
    missing = client.get("/?status=404")
    assert (missing.status_code, missing.text) == (404, "mine")


def test_a_streamed_answer_may_change_the_session_until_its_first_chunk() -> None:
    """What is set before the first chunk reaches the cookie; what is set later is saved at the end."""
    closed: list[bool] = []

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]

        def body() -> Iterator[str]:
            try:
                seen = session.get("early"), session.get("late")
                session["early"] = 1
                session.save()
                yield ""
                yield f"{seen}"
                session["late"] = 2
                session.save()
                yield "."
            finally:
                closed.append(True)

        return flask.Response(body())

    client = client_of(function)
    first = client.get("/", buffered=True)
    assert first.text == "(None, None)."
    assert "Set-Cookie" in first.headers
    assert client.get("/", buffered=True).text == "(1, 2)."
    assert closed == [True, True]


def test_a_stream_that_is_not_ready_is_not_waited_for() -> None:
    """An empty chunk is the first one: the response begins with it, and what follows is computed when asked for."""
    computed: list[str] = []

    def body() -> Iterator[str]:
        for chunk in ("", "a"):
            computed.append(chunk)
            yield chunk

    function = with_session(type="memory", secret=KEY)(lambda request: flask.Response(body()))
    with flask.Flask("x").test_request_context():
        response = function(flask.request)
        assert computed == [""]
        assert b"".join(response.iter_encoded()) == b"a"


def test_a_stream_that_fails_saves_nothing_more() -> None:
    """What it has changed since its first chunk is not saved when the server closes it; a lock is released."""
    held: list[Any] = []

    @with_session(type="memory", secret=KEY)
    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]
        held.append(session.get("n"))

        def body() -> Iterator[str]:
            session.lock(timeout=0)
            session["n"] = 1
            session.save()
            yield "a"
            session["n"] = 2
            session.save()
            raise ZeroDivisionError

        return flask.Response(body())

    client = client_of(function)
    for _ in range(2):
        answer = client.get("/", buffered=False)
        with pytest.raises(ZeroDivisionError):
            assert answer.data
        answer.close()
    assert held == [None, 1]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stream_that_fails_at_once_is_the_servers(method: str) -> None:
    """The error is raised where the bare stream raises it, behind Flask; nothing is saved; HEAD runs no stream."""
    run: list[bool] = []
    visits: list[Any] = []

    def body() -> Iterator[str]:
        run.append(True)
        if run:
            raise ValueError("broken")
        yield ""

    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]
        visits.append(session.get("visits", 0))
        session["visits"] = visits[-1] + 1
        session.save()
        return flask.Response(body()) if request.query_string else "x"

    client = client_of(with_session(type="memory", secret=KEY)(function))
    client.get("/")
    if method == "HEAD":
        assert (client.head("/?stream").status_code, run) == (200, [])
    else:
        with pytest.raises(ValueError, match="broken"):
            client.get("/?stream")
    client.get("/")
    assert visits == ([0, 1, 2] if method == "HEAD" else [0, 1, 1])


def test_a_late_change_of_a_cookie_session_is_warned_about() -> None:
    """The headers are gone: the change cannot be kept, and a warning says so."""

    @with_session(type="cookie", secret=KEY)
    def function(request: Any) -> Any:
        session = request.environ["beaker.session"]
        counting(request)

        def body() -> Iterator[str]:
            yield "a"
            session["late"] = 1
            session.save()

        return flask.Response(body())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client_of(function).get("/", buffered=True)
    assert any(issubclass(item.category, BeakerWarning) for item in caught)


def test_a_save_that_fails_closes_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function's generator is not left open when the session cannot be stored."""
    from beaker.session.proxy import SessionObject

    closed: list[bool] = []

    def body() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    def broken(self: Any) -> Any:
        raise StoreUnavailable("down")

    monkeypatch.setattr(SessionObject, "commit", broken)
    answer = client_of(with_session(type="memory", secret=KEY)(lambda request: flask.Response(body()))).get("/")
    assert (answer.status_code, closed) == (500, [True])


def test_configured_at_the_first_request_and_once() -> None:
    """Decorating opens nothing and refuses a wrong option; 8 first calls configure once."""
    with pytest.raises(ConfigError, match="timeout"):
        with_session(timeout="soon", secret=KEY)(counting)
    keyless = with_session(type="cookie")(counting)
    with flask.Flask("x").test_request_context(), pytest.raises(ConfigError, match="cookie sessions need a key"):
        keyless(flask.request)

    made: list[object] = []

    class Counted(Settings):
        def report(self) -> str:
            made.append(1)
            return super().report()

    settings = Counted.from_environ({"BEAKER_SESSION_TYPE": "memory", "BEAKER_SESSION_SECRET": KEY}, runtime=Runtime())
    function = with_session(settings=settings)(counting)
    gate = threading.Barrier(8)

    def call() -> None:
        gate.wait(10)
        client_of(function).get("/")

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == 1


def test_without_options_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables configure the session and the regions; a missing secret on the platform is an error."""
    monkeypatch.setenv("BEAKER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BEAKER_SESSION_KEY", "named")
    monkeypatch.setenv("BEAKER_CACHE_FUNCTIONS__EXPIRE", "5m")
    answer = client_of(with_session(counting)).get("/")
    assert answer.headers["Set-Cookie"].startswith("named=")
    assert cache_regions["functions"]["expire"] == 300.0
    monkeypatch.setenv("K_SERVICE", "s")
    monkeypatch.setenv("FUNCTION_TARGET", "t")
    with flask.Flask("x").test_request_context(), pytest.raises(ConfigError, match="keys new"):
        with_session(counting)(flask.request)


def test_caches_alone_need_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event function configures its regions on the platform without a session secret, after decorating."""
    calls: list[int] = []

    @cache_region("events")
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    monkeypatch.setenv("K_SERVICE", "s")
    monkeypatch.setenv("FUNCTION_TARGET", "t")
    configure_cache(regions={"events": {"type": "memory", "expire": 60}})
    assert [double(2), double(2)] == [4, 4]
    assert calls == [2]


def test_the_decorator_keeps_the_function_s_name() -> None:
    """functions-framework finds the target by it."""
    assert with_session(counting).__name__ == "counting"
    assert with_session(type="memory")(counting).__wrapped__ is counting  # type: ignore[attr-defined]


SOURCE = """
    from beaker.cache import cache_region
    from gae.functions import with_session

    made = []

    @cache_region("lookup")
    def number():
        made.append(1)
        return len(made)

    @with_session
    def visit(request):
        session = request.environ["beaker.session"]
        n = session.increment("n")
        session.save()
        return f"{n} {number()}"
"""
VARIABLES = {"BEAKER_SESSION_SECRET": KEY, "BEAKER_SESSION_TYPE": "file", "BEAKER_CACHE_LOOKUP__TYPE": "memory"}


def test_under_functions_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its application serves the decorated function, with a cached function configured by the first request."""
    import functions_framework

    source = tmp_path / "main.py"
    source.write_text(textwrap.dedent(SOURCE))
    for name, value in {**VARIABLES, "BEAKER_DATA_DIR": str(tmp_path), "FUNCTION_SIGNATURE_TYPE": "http"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FUNCTION_TARGET", "visit")
    client = functions_framework.create_app("visit", str(source), "http").test_client()
    assert [client.get("/").text for _ in range(3)] == ["1 1", "2 1", "3 1"]


@pytest.mark.parametrize("server", ["debug", "gunicorn"])
def test_under_its_servers(server: str, tmp_path: Path) -> None:
    """The debug server and gunicorn, whose forked worker serves what the master imported, respond alike."""
    (tmp_path / "main.py").write_text(textwrap.dedent(SOURCE))
    port = free_port()
    if server == "debug":
        command = ["-m", "functions_framework", "--target=visit", "--source=main.py", f"--port={port}", "--debug"]
        command += ["--host=127.0.0.1"]
    else:
        command = ["-m", "gunicorn", "--no-control-socket", "--preload", "--bind", f"127.0.0.1:{port}"]
        command += ["--workers", "1", "--threads", "4", "functions_framework:app"]
    environ = {**os.environ, **VARIABLES, "PYTHONPATH": str(ROOT), "BEAKER_DATA_DIR": str(tmp_path / "data")}
    environ |= {"FUNCTION_TARGET": "visit", "FUNCTION_SOURCE": "main.py", "FUNCTION_SIGNATURE_TYPE": "http"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=tmp_path, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        try:
            assert _visits(f"http://127.0.0.1:{port}/", process, tmp_path / "log") == ["1 1", "2 1", "3 1"]
        finally:
            # The debug server's reloader is a child of its own.
            os.killpg(process.pid, 15)
            process.wait(20)


def _visits(url: str, process: subprocess.Popen[bytes], log: Path) -> list[str]:
    pause = threading.Event()
    end = time.monotonic() + 60
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    seen: list[str] = []
    while len(seen) < 3 and time.monotonic() < end and process.poll() is None:
        try:
            with opener.open(url, timeout=10) as answer:
                seen.append(answer.read().decode())
        except urllib.error.HTTPError as error:
            pytest.fail(f"{error.code}\n{log.read_text(errors='replace')}")
        except OSError:
            pause.wait(0.1)
    if len(seen) < 3:
        pytest.fail(log.read_text(errors="replace"))
    return seen
