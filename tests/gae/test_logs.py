"""Logs as Cloud Logging reads them on Google's platforms, and as people read them elsewhere."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.runtime import Platform, Runtime
from beaker.testing import Browser
from gae.app import compose
from gae.logs import CloudFormatter, RequestTrace, configure, trace_of
from gae.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
RUN = Runtime(platform=Platform.CLOUD_RUN, project="demo")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"

log = logging.getLogger("tests.gae.logs")


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """What configure does to the root logger ends with the test; so does the trace of its requests."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    RequestTrace.begin({})


@pytest.fixture
def lines() -> Callable[[], list[dict[str, Any]]]:
    """What the root logger has written since, each line a JSON object."""
    stream = io.StringIO()
    configure(RUN, level="DEBUG", stream=stream)

    def read() -> list[dict[str, Any]]:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]

    return read


Lines = Callable[[], list[dict[str, Any]]]


def test_a_record_is_one_line_of_fields(lines: Lines) -> None:
    """Severity, message, time and place in Cloud Logging's names; extra fields; the request's own."""
    extra = {"json_fields": {"order": 7, "severity": "mine"}, "http_request": {"requestMethod": "GET"}}
    log.warning("two\nlines of %s", "text", extra=extra)
    [entry] = lines()
    assert entry["severity"] == "WARNING"
    assert entry["message"] == "two\nlines of text"
    assert entry["order"] == 7
    assert entry["httpRequest"] == {"requestMethod": "GET"}
    assert entry["time"].endswith("+00:00")
    place = entry["logging.googleapis.com/sourceLocation"]
    assert (place["file"], place["function"]) == (__file__, "test_a_record_is_one_line_of_fields")
    assert place["line"].isdecimal()
    assert "logging.googleapis.com/trace" not in entry


@pytest.mark.parametrize(
    ("level", "severity"),
    [(5, "DEFAULT"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARNING"), (40, "ERROR"), (99, "CRITICAL")],
)
def test_every_level_has_a_severity(level: int, severity: str) -> None:
    """Levels in between count as the one below."""
    record = logging.LogRecord("name", level, "file", 1, "text", None, None)
    assert json.loads(CloudFormatter().format(record))["severity"] == severity


def test_a_traceback_is_in_the_message(lines: Lines) -> None:
    """Where Error Reporting finds it, of a record that came from another process as text as well."""
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("at work", stack_info=True)
    [entry] = lines()
    assert entry["message"].startswith("at work\nTraceback (most recent call last):\n")
    assert "ValueError: broken" in entry["message"]
    assert "Stack (most recent call last)" in entry["message"]
    sent = logging.makeLogRecord({"levelno": 40, "msg": "at work", "exc_text": "Traceback: broken"})
    assert json.loads(CloudFormatter().format(sent))["message"] == "at work\nTraceback: broken"


class Silent:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_no_field_loses_the_line(lines: Lines) -> None:
    """What JSON cannot express becomes text: objects, odd keys, infinities, cycles, fields that are not a mapping."""
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    odd = {
        "bytes": b"\xff",
        "set": {1},
        "error": ValueError("why"),
        "silent": Silent(),
        "infinite": float("inf"),
        "none": [float("nan"), None, True],
        ("a", 1): {2: "two"},
        "surrogate": "\ud800",
    }
    for fields in (odd, circle, {"deep": deep}, ["a list"], {"only": Silent()}, {"x": float("nan")}):
        log.info("kept", extra={"json_fields": fields})
    first, second, third, fourth, fifth, sixth = lines()
    assert {entry["message"] for entry in (first, second, third, fourth, fifth, sixth)} == {"kept"}
    assert (first["bytes"], first["set"], first["error"], first["silent"]) == ("b'\\xff'", "{1}", "why", "<Silent>")
    assert (first["infinite"], first["none"], first["('a', 1)"]) == ("inf", ["nan", None, True], {"2": "two"})
    assert fourth["json_fields"] == ["a list"]
    assert (fifth["only"], sixth["x"]) == ("<Silent>", "nan")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-{SPAN}-01"}, (TRACE, SPAN, True)),
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-{SPAN}-00"}, (TRACE, SPAN, False)),
        ({"HTTP_TRACEPARENT": f"01-{TRACE}-{SPAN}-03-more"}, (TRACE, SPAN, True)),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": f"{TRACE.upper()}/255;o=1"}, (TRACE, "00000000000000ff", True)),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": TRACE}, (TRACE, "", False)),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": f"{TRACE}/99999999999999999999;o=0"}, (TRACE, "6bc75e2d630fffff", False)),
        ({"HTTP_TRACEPARENT": "rubbish", "HTTP_X_CLOUD_TRACE_CONTEXT": TRACE}, (TRACE, "", False)),
        ({"HTTP_TRACEPARENT": f"ff-{TRACE}-{SPAN}-01"}, None),
        ({"HTTP_TRACEPARENT": f"00-{'0' * 32}-{SPAN}-01"}, None),
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-{'0' * 16}-01"}, None),
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-{SPAN}-01\n"}, None),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": f"{TRACE}/1;o=1\n"}, None),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": f'{TRACE[:-1]}"'}, None),
        ({"HTTP_X_CLOUD_TRACE_CONTEXT": f"{TRACE}/\u0663;o=1"}, None),
        ({}, None),
    ],
)
def test_the_trace_is_read_from_either_header(headers: Mapping[str, str], found: tuple[str, str, bool] | None) -> None:
    """W3C's header first, then Google's; what is malformed in either counts as none."""
    trace = trace_of(headers)
    assert (None if trace is None else (trace.id, trace.span, trace.sampled)) == found


def test_lines_of_a_request_carry_its_trace(lines: Lines, tmp_path: Path) -> None:
    """Lines of the application and of its body do, complete with the project; the next request without one has none."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        log.info("called")
        start_response("200 OK", [("Content-Type", "text/plain")])
        log.info("streaming")
        yield b"x"

    environ = {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_TYPE": "cookie"}
    browser = Browser(compose(app, settings=Settings.from_environ(environ, runtime=RUN)))
    lines()
    browser.get(HTTP_TRACEPARENT=f"00-{TRACE}-{SPAN}-01")
    told = lines()
    assert [entry["message"] for entry in told] == ["called", "streaming"]
    for entry in told:
        assert entry["logging.googleapis.com/trace"] == f"projects/demo/traces/{TRACE}"
        assert entry["logging.googleapis.com/spanId"] == SPAN
        assert entry["logging.googleapis.com/trace_sampled"] is True
    browser.get()
    assert not any("logging.googleapis.com/trace" in entry for entry in lines())


def test_elsewhere_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On a laptop plain text on stderr; on a platform JSON on stdout."""
    configure(Runtime())
    log.info("plain")
    configure(RUN)
    log.info("fields")
    out, err = capsys.readouterr()
    assert err.rstrip().endswith("INFO    tests.gae.logs: plain")
    assert json.loads(out)["message"] == "fields"


def test_configuring_again_replaces_ours_alone() -> None:
    """There is one handler of Beaker's, however often; other handlers stay; the level is the last one given."""
    root = logging.getLogger()
    others = list(root.handlers)
    other = logging.NullHandler()
    root.addHandler(other)
    handlers = [configure(RUN, level=level, stream=io.StringIO()) for level in ("INFO", "ERROR")]
    assert [handler for handler in root.handlers if handler not in others] == [other, handlers[1]]
    assert root.level == logging.ERROR


def test_nothing_secret_is_in_a_line(lines: Lines, tmp_path: Path) -> None:
    """At DEBUG: neither the start, nor visits, nor a refused option's traceback shows a key, an id or a value."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["diary"] = "dear-diary-0815"
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session.id).encode()]

    environ = {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_TYPE": "file", "BEAKER_DATA_DIR": str(tmp_path)}
    browser = Browser(compose(app, settings=Settings.from_environ(environ, runtime=Runtime())))
    first = browser.get().text
    browser.cookies = {name: f"{value}x" for name, value in browser.cookies.items()}
    secrets = {SECRET, "dear-diary-0815", first, browser.get().text, *browser.cookies.values(), "hush-hush-0815"}
    refused = {**environ, "BEAKER_SESSION_TIMEOUT": "hush-hush-0815"}
    try:
        Settings.from_environ(refused, runtime=RUN)
    except ConfigError:
        log.exception("refused")
    told = lines()
    assert len(told) >= 2
    text = json.dumps(told)
    assert [secret for secret in secrets if secret in text] == []


COMPOSED = """
    from gae.app import compose
    compose(lambda environ, start_response: [])
"""
DECORATED = """
    import flask
    from gae.functions import with_session
    with flask.Flask("x").test_request_context():
        with_session(lambda request: "x")(flask.request)
"""


@pytest.mark.parametrize("program", [COMPOSED, DECORATED], ids=["compose", "with_session"])
def test_a_deployment_that_sets_up_no_logging_is_read_all_the_same(program: str) -> None:
    """On the platform the start's one line is a JSON object on stdout, though no logging was configured."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "K_SERVICE": "shop", "GOOGLE_CLOUD_PROJECT": "demo"}
    environ |= {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_TYPE": "cookie"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    [line] = done.stdout.splitlines()
    entry = json.loads(line)
    assert (entry["severity"], entry["logger"]) == ("INFO", "gae")
    assert entry["message"].startswith("beaker: platform=cloudrun session=cookie (environment) cache=memory (platform)")
    assert SECRET not in done.stdout + done.stderr


def test_a_function_that_logs_execution_ids_is_read_all_the_same(tmp_path: Path) -> None:
    """functions-framework's own logging hides the start's line and disables our loggers; its ids stay in the lines."""
    (tmp_path / "main.py").write_text(
        textwrap.dedent("""
            import logging
            from gae.functions import with_session

            @with_session
            def hello(request):
                logging.getLogger("beaker.cache").warning("told in a request")
                return "hello"
        """)
    )
    program = """
        import functions_framework
        client = functions_framework.create_app("hello", "main.py").test_client()
        assert client.get("/", headers={"Function-Execution-Id": "id-0815"}).text == "hello"
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "K_SERVICE": "shop", "FUNCTION_TARGET": "hello"}
    environ |= {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_TYPE": "cookie", "LOG_EXECUTION_ID": "true"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=60)
    start, told = map(json.loads, (done.stdout + done.stderr).splitlines())
    assert start["message"].startswith("beaker: platform=functions session=cookie (environment)")
    assert (start["severity"], start["logger"]) == ("INFO", "gae")
    assert (told["severity"], told["logger"], told["message"]) == ("WARNING", "beaker.cache", "told in a request")
    assert {line["logging.googleapis.com/labels"]["execution_id"] for line in (start, told)} == {"id-0815"}
