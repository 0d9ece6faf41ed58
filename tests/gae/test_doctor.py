"""Each finding triggered once in both commands, ``python -m beaker explain`` and ``python -m gae.doctor``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker import __main__
from beaker.caching import registry
from beaker.operations import checks
from beaker.operations.report import Finding
from gae import doctor
from gae.settings import KEPT_SECRET
from tests.test_explain import dated as dated

ROOT = Path(__file__).resolve().parents[2]
KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
GOOD = {
    "K_SERVICE": "shop",
    "GOOGLE_CLOUD_PROJECT": "demo",
    "BEAKER_SESSION_SECRET": KEY,
    "BEAKER_SESSION_TYPE": "ext:google",
    "BEAKER_CACHE_TYPE": "ext:google",
    "BEAKER_TTL_POLICY": "true",
    "BEAKER_TASKS_SECRET": KEY[::-1],
}
REFERENCE = "secret:projects/p/secrets/s/versions/1"

Run = Callable[..., tuple[int, dict[str, Finding]]]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading what every distribution owns takes half a second: only one test and the commands do it."""
    monkeypatch.setattr(checks, "distributions", list)


@pytest.fixture(params=["explain", "doctor"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """One of the commands as a shell runs it: exit status and checks by their code."""
    monkeypatch.chdir(tmp_path)

    def call(environ: Mapping[str, str], *arguments: str) -> tuple[int, dict[str, Finding]]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        told, text = io.StringIO(), io.StringIO()
        if request.param == "doctor":
            status = doctor.main(["--json", *arguments], out=told)
            assert doctor.main(arguments, out=text) == status
        else:
            status = __main__.main(["explain", "--json", *arguments], out=told)
            assert __main__.main(["explain", *arguments], out=text) == status
        report = json.loads(told.getvalue())
        found = [Finding(**finding) for finding in report["findings"]]
        assert (status, report["ok"]) == ((1, False) if any(f.severity == "error" for f in found) else (0, True))
        # The warning that files vanish comes once per process: the second look is silent.
        for finding in [finding for finding in found if not finding.message.startswith("type '")]:
            assert f"  {finding.severity.upper()} {finding.code}: " in text.getvalue()
            assert finding.fix
            for line in finding.fix.splitlines():
                assert f"    {line}\n" in text.getvalue()
        for secret in (KEY, KEY[::-1]):
            assert secret not in told.getvalue() + text.getvalue()
        return status, {finding.code: finding for finding in found}

    return call


def test_a_good_deployment_has_no_findings(run: Run) -> None:
    """Status 0 and no finding."""
    assert run({**GOOD, "BEAKER_CACHE_SECRET": KEY}) == (0, {})


@pytest.mark.parametrize(
    ("code", "severity", "environ", "fix"),
    [
        ("config.weak-key", "error", {"BEAKER_SESSION_SECRET": "too-short"}, "python -m beaker keys new"),
        ("config.weak-key", "warning", {"BEAKER_SESSION_SECRET": "0123456789abcdef0123"}, "python -m beaker keys new"),
        ("config.missing-key", "error", {"BEAKER_SESSION_SECRET": ""}, "python -m beaker keys new"),
        ("deploy.local-sessions", "error", {"BEAKER_SESSION_TYPE": "memory"}, "BEAKER_SESSION_TYPE=ext:google"),
        ("deploy.local-sessions", "error", {"BEAKER_SESSION_TYPE": "file"}, "BEAKER_SESSION_TYPE=ext:google"),
        ("deploy.local-sessions", "error", {"BEAKER_SESSION_TYPE": "dbm"}, "BEAKER_SESSION_TYPE=ext:google"),
        (
            "deploy.local-sessions",
            "error",
            {"BEAKER_SESSION_TYPE": "hybrid", "BEAKER_SESSION_STORE": "memory"},
            "BEAKER_SESSION_TYPE=ext:google",
        ),
        ("deploy.local-cache", "warning", {"BEAKER_CACHE_TYPE": "file"}, "ext:google"),
        (
            "config.pickle-without-key",
            "error",
            {"BEAKER_SESSION_SECRET": "", "BEAKER_SESSION_SERIALIZER": "pickle"},
            "set session.secret, or session.serializer = json",
        ),
        ("deploy.no-ttl-policy", "warning", {"BEAKER_TTL_POLICY": ""}, "--collection-group=beaker_cache --enable-ttl"),
        ("config.insecure-cookie", "warning", {"BEAKER_SESSION_SECURE": "no"}, "session.secure"),
        ("config.unknown-variable", "warning", {"BEAKER_SESSION_COMPRES": "9"}, "BEAKER_SESSION_COMPRESS"),
        ("config.unknown-variable", "error", {"BEAKER_SESSION_TIMOUT": "9"}, "BEAKER_SESSION_TIMEOUT"),
        ("config.empty-variable", "note", {"BEAKER_SESSION_TIMEOUT": ""}, "unset BEAKER_SESSION_TIMEOUT"),
        ("config.invalid-option", "error", {"BEAKER_SESSION_TIMEOUT": "soon"}, "seconds"),
        ("config.invalid-option", "error", {"BEAKER_PLATFORM": "moon"}, "appengine"),
    ],
)
def test_each_finding_says_what_to_do(run: Run, code: str, severity: str, environ: dict[str, str], fix: str) -> None:
    """Found, with its severity and the fix; the exit status is 1 for errors."""
    status, found = run({**GOOD, **environ})
    assert found[code].severity == severity
    assert fix in found[code].fix
    assert status == (severity == "error")


def test_a_missing_extra_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of the chosen type, and cryptography for an encryption key, are not installed."""
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    monkeypatch.delitem(registry._loaded, "ext:google", raising=False)
    status, found = run(GOOD)
    assert (status, found["config.missing-package"].fix) == (1, "pip install 'beaker-gae[google]'")


def test_missing_cryptography_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encryption key without the package that uses it."""
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    status, found = run({**GOOD, "BEAKER_CACHE_ENCRYPT_KEY": KEY})
    assert (status, found["config.missing-package"].fix) == (1, "pip install 'beaker-gae[crypto]'")


def test_another_owner_of_our_package_is_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's distribution is installed beside ours."""
    other = SimpleNamespace(metadata={"Name": "Beaker"}, version="1.14.1", read_text=lambda name: "beaker/cache.py,,\n")
    monkeypatch.setattr(checks, "distributions", lambda: [other])
    status, found = run(GOOD)
    assert status == 1
    assert found["deploy.foreign-distribution"].fix.startswith("pip uninstall beaker, then install beaker-gae again")


def test_a_wrong_clock_is_found(run: Run, dated: Any) -> None:
    """Minutes apart is an error; a server that does not respond, a warning."""
    url, handler = dated
    handler.date = formatdate(1_000_000_000, usegmt=True)
    status, found = run(GOOD, "--check-clock", url)
    assert (status, found["deploy.clock-skew"].severity) == (1, "error")
    assert "synchronise the clock" in found["deploy.clock-skew"].fix
    handler.date = None
    status, found = run(GOOD, "--check-clock", url)
    assert (status, list(found)) == (0, ["deploy.clock-unknown"])


def found(environ: Mapping[str, str], directory: Path, payload: bytes | None = None) -> dict[str, Finding]:
    """What only the doctor finds; ``payload`` is what Secret Manager returns; without one it refuses."""

    def access(*, name: str, timeout: float) -> Any:
        if payload is None:
            raise PermissionError(name)
        return SimpleNamespace(payload=SimpleNamespace(data=payload))

    client = SimpleNamespace(access_secret_version=access)
    report = doctor.examine(environ, directory=directory, secrets_client=client)
    return {finding.code: finding for finding in report.findings}


def test_secrets_are_read_and_judged(tmp_path: Path) -> None:
    """A good secret passes, a weak one is found, and one that cannot be read is reported as that only."""
    environ = {**GOOD, "BEAKER_SESSION_SECRET": REFERENCE}
    assert found(environ, tmp_path, KEY.encode()) == {}
    assert list(found(environ, tmp_path, b"0123456789abcdef0123")) == ["config.weak-key"]
    refused = found(environ, tmp_path)
    assert list(refused) == ["config.secret-manager"]
    assert "BEAKER_SESSION_SECRET" in refused["config.secret-manager"].message
    assert "roles/secretmanager.secretAccessor" in refused["config.secret-manager"].fix
    mounted = {**GOOD, "BEAKER_SESSION_SECRET": "", "BEAKER_SESSION_SECRET_FILE": str(tmp_path / "none")}
    assert list(found(mounted, tmp_path)) == ["config.unreadable-file", "config.empty-variable"]


def test_on_a_laptop_the_key_is_the_kept_one(tmp_path: Path) -> None:
    """Before the first start a note says that one will be created; then its file is judged. Looking creates nothing."""
    assert list(found({}, tmp_path)) == ["deploy.key-to-be-made"]
    assert list(tmp_path.iterdir()) == []
    kept = tmp_path / "data" / KEPT_SECRET
    kept.parent.mkdir()
    kept.write_text(KEY)
    kept.chmod(0o600)
    assert found({}, tmp_path) == {}
    kept.chmod(0o644)
    assert found({"BEAKER_DATA_DIR": str(kept.parent)}, tmp_path)["deploy.readable-key"].fix == f"chmod 600 {kept}"


def test_who_may_purge_is_asked_where_it_matters(tmp_path: Path) -> None:
    """Off App Engine a purge needs an audience or a secret; wrong ones are errors."""
    nobody = {**GOOD, "BEAKER_TASKS_SECRET": ""}
    assert "gae/deploy/ttl.md" in found(nobody, tmp_path)["deploy.nobody-may-purge"].fix
    on_app_engine = {**nobody, "GAE_ENV": "standard"}
    assert "deploy.nobody-may-purge" not in found(on_app_engine, tmp_path)
    weak = found({**GOOD, "BEAKER_TASKS_SECRET": "too-short"}, tmp_path)["config.weak-key"]
    assert (weak.severity, "BEAKER_TASKS_SECRET" in weak.message) == ("error", True)
    alone = found({**nobody, "BEAKER_TASKS_AUDIENCE": "https://x"}, tmp_path)["config.invalid-option"]
    assert (alone.severity, "BEAKER_TASKS_SERVICE_ACCOUNTS" in alone.fix) == ("error", True)


def test_variables_of_tasks_that_do_nothing_are_found(tmp_path: Path) -> None:
    """Accounts without an audience, and a region to warm that nothing configures."""
    accounts = found({**GOOD, "BEAKER_TASKS_SERVICE_ACCOUNTS": "a@b"}, tmp_path)["config.invalid-option"]
    assert (accounts.severity, "BEAKER_TASKS_AUDIENCE" in accounts.fix) == ("error", True)
    warmed = {**GOOD, "BEAKER_CACHE_LONG__EXPIRE": "60", "BEAKER_WARMUP_REGIONS": "long, lnog"}
    region = found(warmed, tmp_path)["deploy.unknown-region"]
    assert (region.severity, "names lnog," in region.message) == ("warning", True)


def test_files_of_the_deployment_are_looked_at(tmp_path: Path) -> None:
    """A secret in app.yaml is an error; a cron.yaml that purges makes a TTL policy unnecessary."""
    app_yaml = tmp_path / "app.yaml"
    app_yaml.write_text(f"env_variables:\n  BEAKER_SESSION_SECRET: '{KEY}'\n")
    leaked = found(GOOD, tmp_path)["deploy.secret-in-app-yaml"]
    assert leaked.severity == "error"
    assert KEY not in leaked.message + leaked.fix
    harmless = "  BEAKER_SESSION_SECRET_FILE: /key\n  BEAKER_SESSION_KEY: shop\n  # BEAKER_TASKS_SECRET: none\n"
    for good in (REFERENCE, f"'{REFERENCE}'", f'"{REFERENCE}"', "''", "# to be set", ""):
        app_yaml.write_text(f"env_variables:\n  BEAKER_SESSION_SECRET: {good}\n{harmless}")
        assert "deploy.secret-in-app-yaml" not in found(GOOD, tmp_path), good
    for name in ("BEAKER_CACHE_PAGES__ENCRYPT_KEY", "BEAKER_TASKS_SECRET", "BEAKER_SESSION_SECRET_FALLBACKS"):
        app_yaml.write_text(f"env_variables:\n  {name}: {KEY}\n{harmless}")
        assert name in found(GOOD, tmp_path)["deploy.secret-in-app-yaml"].message
    asking = {**GOOD, "BEAKER_TTL_POLICY": ""}
    assert "deploy.no-ttl-policy" in found(asking, tmp_path)
    (tmp_path / "cron.yaml").write_text((ROOT / "gae" / "deploy" / "cron.yaml").read_text())
    assert "deploy.no-ttl-policy" not in found(asking, tmp_path)


def test_on_the_emulator_from_the_shell(datastore_emulator: Any, tmp_path: Path) -> None:
    """`python -m gae.doctor` beside a real emulator: named, no TTL asked for, status 0; and 1 with an error."""
    project = f"doctor-{uuid.uuid4().hex[:8]}"
    environ = {**os.environ, **GOOD, "PYTHONPATH": str(ROOT), "GOOGLE_CLOUD_PROJECT": project, "BEAKER_TTL_POLICY": ""}
    environ["DATASTORE_EMULATOR_HOST"] = datastore_emulator.host

    def doctor_says(**more: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "gae.doctor", "--json"]
        ended = subprocess.run(
            command, cwd=tmp_path, env={**environ, **more}, capture_output=True, text=True, timeout=120
        )
        assert ended.stderr == ""
        return ended.returncode, json.loads(ended.stdout)

    status, report = doctor_says()
    assert (status, report["findings"]) == (0, [])
    detected = {item["name"]: item["value"] for item in report["detected"]}
    assert (detected["Datastore emulator"], detected["project"]) == (datastore_emulator.host, project)
    options = {(row["scope"], row["option"]): row["value"] for row in report["options"]}
    assert (options["session", "type"], options["tasks", "secret"]) == ("ext:google", "<set>")
    status, report = doctor_says(BEAKER_SESSION_TYPE="memory")
    assert (status, report["ok"]) == (1, False)
    assert list(tmp_path.iterdir()) == []
