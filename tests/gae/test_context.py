"""An NDB context for each request: one client a process, held until the body is closed, never one inside another."""

from __future__ import annotations

import contextlib
import contextvars
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.exceptions import InvalidCacheBackendError
from beaker.runtime import Runtime
from beaker.testing import Browser
from gae.app import compose
from gae.ndb_context import NDBContextMiddleware, NDBSource
from gae.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runtime(datastore_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The client asks the variable where the emulator is; the project keeps this test's entities apart."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_emulator.host)
    return Runtime(project=f"context-{uuid.uuid4().hex[:8]}", emulator_host=datastore_emulator.host)


@pytest.fixture
def note() -> Any:
    """A model of the application."""
    from google.cloud import ndb

    return type("Note", (ndb.Model,), {"text": ndb.StringProperty()})


def current() -> Any:
    from google.cloud.ndb import context

    return context.get_context(False)


def answering(steps: Callable[[], Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """An application whose body is what ``steps`` yields while the server asks for it."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return steps()

    return app


def call(app: Callable[..., Iterable[bytes]]) -> Any:
    """The body of one request, not yet read nor closed."""
    return app({}, lambda status, headers, exc_info=None: None)


def test_the_context_lasts_until_the_body_is_closed(runtime: Runtime, note: Any) -> None:
    """Every chunk is built in the request's own context; work left on its event loop is done when the body closes."""
    seen: list[Any] = []

    def steps() -> Iterator[bytes]:
        seen.append(current())
        note(id="a", text="first").put()
        yield b"1"
        seen.append(current())
        found = note.get_by_id("a").text
        note(id="b", text="late").put_async()
        yield found.encode()

    source = NDBSource(runtime=runtime)
    body = call(NDBContextMiddleware(answering(steps), source))
    assert current() is None, "the thread must not keep it between two steps"
    assert [next(body), next(body)] == [b"1", b"first"]
    assert seen[0] is seen[1] is not None
    body.close()
    body.close()
    with source.client.context():
        assert note.get_by_id("b").text == "late"
    assert Browser(NDBContextMiddleware(answering(lambda: iter([b"x"])), source)).get().text == "x"


def test_a_body_keeps_its_length(runtime: Runtime) -> None:
    """Of a list of one chunk a server computes Content-Length, so that it still knows how many it has."""
    source = NDBSource(runtime=runtime)
    with contextlib.closing(call(NDBContextMiddleware(answering(lambda: [b"x"]), source))) as body:
        assert (len(body), list(body)) == (1, [b"x"])
    with contextlib.closing(call(NDBContextMiddleware(answering(lambda: iter([b"x"])), source))) as body:
        assert not hasattr(body, "__len__")


def test_each_request_has_a_context_of_its_own_and_all_have_one_client(runtime: Runtime) -> None:
    """8 threads that start together share the client, and no two requests share a context."""
    gate = Barrier(8)
    source = NDBSource(runtime=runtime)
    contexts: list[Any] = []

    def steps() -> Iterator[bytes]:
        gate.wait(20)
        contexts.append(current())
        yield b"x"

    def run(_: int) -> bytes:
        with contextlib.closing(call(NDBContextMiddleware(answering(steps), source))) as body:
            return b"".join(body)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [b"x"] * 8
    assert len({id(context) for context in contexts}) == 8
    assert {context.client for context in contexts} == {source.client}


def test_a_context_that_is_open_is_left_alone(runtime: Runtime) -> None:
    """The application that opens its own sees that one, in the body too; no client is created."""
    source = NDBSource(runtime=runtime)
    own = NDBSource(runtime=runtime).client
    seen: list[Any] = []

    def steps() -> Iterator[bytes]:
        seen.append(current())
        yield b"x"

    with own.context() as outer:
        with source.context() as borrowed:
            assert borrowed is outer
        assert b"".join(call(NDBContextMiddleware(answering(steps), source))) == b"x"
        assert current() is outer
    assert seen == [outer]
    assert source._made is None
    with source.context() as opened:
        assert current() is opened
    assert current() is None


def test_the_client_of_the_application_is_used(runtime: Runtime, tmp_path: Path) -> None:
    """compose(ndb=client) opens its contexts with that client, around handlers and sessions; ndb=True creates one."""
    own = NDBSource(runtime=runtime).client
    clients: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        clients.append(current().client)
        environ["beaker.session"].increment("n")
        environ["beaker.session"].save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    settings = Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path)}, runtime=runtime)
    prefetch = [lambda: clients.append(current().client)]
    browser = Browser(compose(app, settings=settings, ndb=own, prefetch=prefetch))
    assert browser.get("/_ah/warmup").status == "200 OK"
    assert browser.get().set_cookies
    assert clients == [own, own]
    Browser(compose(app, settings=settings, ndb=True)).get()
    assert clients[2].project == runtime.project
    assert clients[2] is not own


def test_none_is_opened_unless_asked_for(runtime: Runtime, tmp_path: Path) -> None:
    """Without ``ndb`` the application runs in no context and may open its own."""
    seen: list[Any] = []

    def steps() -> Iterator[bytes]:
        seen.append(current())
        with NDBSource(runtime=runtime).client.context():
            yield b"x"

    settings = Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path)}, runtime=runtime)
    assert Browser(compose(answering(steps), settings=settings)).get().text == "x"
    assert seen == [None]


@pytest.mark.parametrize("where", ["call", "iter", "chunk", "close"])
def test_an_exception_ends_the_context_and_reaches_the_server(runtime: Runtime, where: str) -> None:
    """Wherever the application fails: its error arrives, its body is closed inside, then the context ends once."""
    closed: list[str] = []
    real = NDBSource(runtime=runtime).client

    @contextlib.contextmanager
    def noted() -> Iterator[Any]:
        try:
            with real.context() as context:
                yield context
        finally:
            closed.append("context")

    class Body:
        def fail(self, at: str) -> None:
            if at == where:
                raise RuntimeError(f"broken in {at}")

        def __iter__(self) -> Iterator[bytes]:
            self.fail("iter")
            return self

        def __next__(self) -> bytes:
            self.fail("chunk")
            raise StopIteration

        def close(self) -> None:
            assert current() is not None
            closed.append("body")
            self.fail("close")

    def steps() -> Iterable[bytes]:
        body = Body()
        body.fail("call")
        return body

    source = NDBSource(SimpleNamespace(context=noted), runtime=runtime)
    with pytest.raises(RuntimeError, match=f"broken in {where}"):
        Browser(NDBContextMiddleware(answering(steps), source)).get()
    assert closed == (["context"] if where == "call" else ["body", "context"])
    assert current() is None


def test_a_body_nobody_closes_reaches_no_other_request(runtime: Runtime) -> None:
    """A server that forgets to close leaves its thread clean, so that the next request gets a new context."""
    seen: list[Any] = []

    def steps() -> Iterator[bytes]:
        seen.append(current())
        yield b"x"

    def thread() -> None:
        app = NDBContextMiddleware(answering(steps), NDBSource(runtime=runtime))
        next(call(app))
        assert current() is None
        next(call(app))

    contextvars.copy_context().run(thread)
    assert None not in seen
    assert seen[0] is not seen[1]


FORKING = """
    import os, sys
    from google.cloud import ndb
    from beaker.runtime import Runtime
    from gae.ndb_context import NDBSource

    class Note(ndb.Model):
        text = ndb.StringProperty()

    source = NDBSource(runtime=Runtime.detect(os.environ))
    client = source.client
    with source.context():
        Note(id="a", text="parent").put()
    pid = os.fork()
    if pid == 0:
        with source.context():
            good = source.client is not client and Note.get_by_id("a").text == "parent"
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert source.client is client
    with source.context():
        assert Note.get_by_id("a").text == "parent"
    print("good")
"""


def test_a_forked_child_makes_its_own_client(runtime: Runtime) -> None:
    """The parent has used its client; the child reads by another one, and the parent keeps its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "GOOGLE_CLOUD_PROJECT": str(runtime.project)}
    command = [sys.executable, "-c", textwrap.dedent(FORKING)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "good\n"), done.stderr


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """compose(ndb=True) without google-cloud-ndb says what to install, at the first request."""
    monkeypatch.setitem(sys.modules, "google.cloud.ndb.context", None)
    monkeypatch.setitem(sys.modules, "google.cloud.ndb", None)
    source = NDBSource(runtime=Runtime())
    for attempt in (lambda: call(NDBContextMiddleware(answering(list), source)), lambda: source.client):
        with pytest.raises(InvalidCacheBackendError, match=r"pip install 'beaker-gae\[google\]'"):
            attempt()
