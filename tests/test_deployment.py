"""Root app.yaml as App Engine runs it: the uploaded files alone, its exact entrypoint, no home, no disk to write to."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from pathlib import Path
from typing import Any

from beaker.runtime import Platform, Runtime
from gae.handlers import PURGE
from tests.deployment import app_yaml, deployed, platform_variables, shown, uploaded
from tests.samples.running import ROOT, STOP_SECONDS, Client


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_upload_is_what_runs_and_no_more(tmp_path: Path) -> None:
    """Every module of beaker, gae and samples is sent; no test, key, local data, environment or compiled file is."""
    sent = uploaded()
    assert {name.partition("/")[0] for name in sent} == {"app.yaml", "requirements.txt", "beaker", "gae", "samples"}
    for package in ("beaker", "gae", "samples"):
        assert {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")} <= set(sent)
    left = ("data/session-secret", "samples/flask_app/data/secret", "session.key", ".venv/bin/python", ".git/config")
    kept = ("beaker/x.py", "beaker/__pycache__/x.pyc", "samples/flask_app/wheels/a.whl", "tests/test_x.py")
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert uploaded(tmp_path) == ["beaker/x.py"]


def test_app_yaml_names_what_exists(tmp_path: Path) -> None:
    """A runtime that pyproject.toml supports, an App Engine of this project, no secret in the file."""
    scalars, variables = app_yaml()
    version = re.fullmatch(r"python(\d)(\d+)", scalars["runtime"])
    assert version
    assert f'"Programming Language :: Python :: {version[1]}.{version[2]}"' in (ROOT / "pyproject.toml").read_text()
    assert "BEAKER_SESSION_SECRET" not in variables
    runtime = Runtime.detect(platform_variables("localhost:1", tmp_path / "home"))
    assert runtime.platform is Platform.APPENGINE


def test_the_entrypoint_serves_from_warmup_to_shutdown(datastore_emulator: Any, tmp_path: Path) -> None:
    """Warmup, health, visits counted, the scheduled purge by its header only; SIGTERM ends all, nothing is written."""
    folder = tmp_path / "upload"
    with deployed(datastore_emulator, folder) as site:
        before = files(folder)
        client = Client(site.url)
        assert (client.get("/_ah/warmup"), client.status) == ("ok\n", 200)
        assert (client.get("/healthz"), client.status) == ("ok\n", 200)
        assert not list(client.jar)

        page = client.get("/")
        assert shown(page, "visits") == "1"
        assert shown(page, "platform") == "appengine + Datastore emulator"
        assert (shown(page, "session-type"), shown(page, "cache-type")) == ("ext:google", "ext:google")
        assert [(cookie.secure, cookie.has_nonstandard_attr("HttpOnly")) for cookie in client.jar] == [(True, True)]
        assert shown(client.get("/"), "visits") == "2"
        assert shown(Client(site.url).get("/"), "visits") == "1"

        scheduled = re.findall(r"url: (\S+)", (ROOT / "gae" / "deploy" / "cron.yaml").read_text())
        assert scheduled == [PURGE]
        assert client.get(PURGE)
        assert client.status == 403
        request = urllib.request.Request(site.url + PURGE, headers={"X-Appengine-Cron": "true"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            report = json.loads(answer.read())
        assert (report["total"], report["done"]) == (0, True)

        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(STOP_SECONDS) == 0
    log = site.log.read_text()
    assert files(folder) == before
    assert "session=ext:google" in log
    # Google's libraries say on import that Python 3.10 is near its end of life.
    own = re.sub(r"(?m)^.*_python_version_support\.py.*\n.*warnings\.warn.*$", "", log)
    assert not re.search("(?i)error|traceback|warning|permission", own), own
