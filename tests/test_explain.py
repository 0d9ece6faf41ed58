"""``python -m beaker explain``: every option with its origin, and each finding triggered once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distributions
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from beaker.__main__ import main
from beaker.operations import checks
from beaker.operations.explain import clock_offset, of_variables
from beaker.operations.report import Finding, Report
from gae import doctor

ROOT = Path(__file__).resolve().parents[1]
KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
ON_APP_ENGINE = {"GAE_ENV": "standard", "GOOGLE_CLOUD_PROJECT": "demo"}
KEYED = {**ON_APP_ENGINE, "BEAKER_SESSION_SECRET": KEY}
QUIET = {**KEYED, "BEAKER_TTL_POLICY": "true", "BEAKER_SESSION_TYPE": "ext:google", "BEAKER_CACHE_SECRET": KEY}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start in the checkout leaves its data there, which would be judged too."""
    monkeypatch.chdir(tmp_path)


def found(environ: Mapping[str, str]) -> dict[str, Finding]:
    return {finding.code: finding for finding in of_variables(environ).findings}


def row(report: Report, option: str, scope: str = "session") -> tuple[str, str, str]:
    [match] = [row for row in report.options if (row.scope, row.option) == (scope, option)]
    return match.value, match.origin, match.reason


def test_every_option_has_a_value_an_origin_and_a_reason() -> None:
    """What was set names its variable, what the platform decides says why, secrets are never shown."""
    report = of_variables(
        {
            **KEYED,
            "BEAKER_SESSION_TIMEOUT": "1h",
            "BEAKER_CACHE_TYPE": "ext:redis",
            "BEAKER_CACHE_URL": "redis://u:pw@h",
        }
    )
    assert row(report, "timeout") == ("3600 s", "environment", "BEAKER_SESSION_TIMEOUT")
    assert row(report, "type") == ("hybrid", "platform", "a key and a project known on serverless")
    assert row(report, "secure") == ("True", "platform", "the platform serves https")
    assert row(report, "touch_interval")[0] == "300 s"
    assert row(report, "absolute_timeout")[:2] == ("1209600 s", "platform")
    assert row(report, "secret") == ("<set>", "environment", "BEAKER_SESSION_SECRET")
    assert row(report, "url", "cache") == ("<set>", "environment", "BEAKER_CACHE_URL")
    assert row(report, "httponly") == ("True", "default", "")
    for text in (report.to_text(), report.to_json()):
        assert KEY not in text
        assert "pw@h" not in text


def test_regions_have_rows_of_their_own() -> None:
    """A region shows what it says for itself."""
    report = of_variables({**QUIET, "BEAKER_CACHE_LOOKUP__EXPIRE": "5m"})
    assert row(report, "expire", "cache.lookup") == ("300 s", "environment", "BEAKER_CACHE_LOOKUP__EXPIRE")


def test_what_was_detected_says_by_what() -> None:
    """Platform and project name the variable they come from."""
    detected = {item.name: (item.value, item.reason) for item in of_variables(KEYED).detected}
    assert detected["platform"] == ("appengine", "GAE_ENV")
    assert detected["project"] == ("demo", "GOOGLE_CLOUD_PROJECT")
    assert detected["disk lasts"][0] == "no"


def test_a_good_deployment_has_no_findings() -> None:
    """Key, place and TTL policy are known: no finding."""
    assert found(QUIET) == {}


@pytest.mark.parametrize(
    ("code", "severity", "environ", "fix"),
    [
        ("config.missing-key", "error", ON_APP_ENGINE, "keys new"),
        ("deploy.key-to-be-made", "note", {}, "nothing to do: it will be in "),
        ("deploy.key-to-be-made", "note", {"BEAKER_SESSION_TYPE": "cookie"}, "nothing to do"),
        ("config.invalid-option", "error", {**QUIET, "BEAKER_TTL_POLICY": "ture"}, "true or false"),
        ("config.weak-key", "warning", {**QUIET, "BEAKER_SESSION_SECRET": "0123456789abcdef0123"}, "keys new"),
        ("config.weak-key", "error", {**QUIET, "BEAKER_SESSION_SECRET": "short"}, "keys new"),
        ("deploy.local-sessions", "error", {**QUIET, "BEAKER_SESSION_TYPE": "memory"}, "ext:google"),
        ("session.memory-bound", "note", {**QUIET, "BEAKER_SESSION_TYPE": "memory"}, "memory keeps 10,000 sessions"),
        ("deploy.local-cache", "warning", {**QUIET, "BEAKER_CACHE_TYPE": "file"}, "ext:google"),
        ("config.insecure-cookie", "warning", {**QUIET, "BEAKER_SESSION_SECURE": "no"}, "session.secure"),
        (
            "config.pickle-without-key",
            "error",
            {**ON_APP_ENGINE, "BEAKER_CACHE_TYPE": "ext:google", "BEAKER_CACHE_SERIALIZER": "pickle"},
            "set the option 'secret'",
        ),
        (
            "deploy.no-ttl-policy",
            "warning",
            {**QUIET, "BEAKER_TTL_POLICY": ""},
            "gcloud firestore fields ttls update expires",
        ),
        ("config.unknown-variable", "warning", {**QUIET, "BEAKER_SESSION_COMPRES": "9"}, "BEAKER_SESSION_COMPRESS"),
        ("config.unknown-variable", "error", {**QUIET, "BEAKER_SESSION_TIMOUT": "9"}, "BEAKER_SESSION_TIMEOUT"),
        ("config.empty-variable", "note", {**QUIET, "BEAKER_SESSION_TIMEOUT": ""}, "unset BEAKER_SESSION_TIMEOUT"),
        ("config.invalid-option", "error", {**QUIET, "BEAKER_SESSION_TIMEOUT": "soon"}, "seconds"),
        ("config.missing-option", "error", {**QUIET, "BEAKER_CACHE_TYPE": "ext:memcached"}, "url"),
        ("config.no-place", "error", {"GAE_ENV": "standard"}, "session.secret"),
        (
            "deploy.secret-not-read",
            "note",
            {**QUIET, "BEAKER_SESSION_SECRET": "secret:projects/p/secrets/s/versions/1"},
            "gae.doctor",
        ),
    ],
)
def test_each_finding_comes_with_its_fix(code: str, severity: str, environ: dict[str, str], fix: str) -> None:
    """What is wrong is found, with its severity and what to do."""
    finding = found(environ)[code]
    assert finding.severity == severity
    assert fix in f"{finding.fix} {finding.message}"


def test_the_ttl_command_names_what_is_in_use() -> None:
    """Kind, database and project are those of the configuration; on an emulator there is no command."""
    environ = {**QUIET, "BEAKER_TTL_POLICY": "", "BEAKER_SESSION_TABLE_NAME": "kinds", "BEAKER_SESSION_DATABASE": "d"}
    assert found(environ)["deploy.no-ttl-policy"].fix.startswith(
        "gcloud firestore fields ttls update expires --collection-group=kinds --enable-ttl --database=d --project=demo"
    )
    assert "deploy.no-ttl-policy" not in found({**environ, "DATASTORE_EMULATOR_HOST": "localhost:1"})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen type's client is not installed: the finding holds the pip command."""
    from beaker import backends
    from beaker.caching import registry

    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    backends.register_backend("ext:google", "beaker.ext.google:GoogleNamespaceManager")  # forgets what was loaded
    monkeypatch.delitem(registry._registered, "ext:google")
    finding = found(QUIET)["config.missing-package"]
    assert (finding.severity, finding.fix) == ("error", "pip install 'beaker-gae[google]'")


def test_a_key_file_open_to_others_is_found(tmp_path: Path) -> None:
    """On a laptop; a file of mode 0600 is good."""
    path = tmp_path / "key"
    path.write_text(KEY)
    environ = {"BEAKER_SESSION_SECRET_FILE": str(path)}
    path.chmod(0o644)
    assert found(environ)["deploy.readable-key"].fix == f"chmod 600 {path}"
    path.chmod(0o600)
    assert "deploy.readable-key" not in found(environ)


def test_another_distribution_in_our_package_is_found(tmp_path: Path) -> None:
    """Upstream Beaker owns files in beaker/: an error that names it."""
    for name, files in {
        "Beaker-1.14.1.dist-info": "x.py,,\nbeaker/cache.py,,\n",
        "first-1.dist-info": "beaker/cache.py,,\n",
        "beaker_gae-2.dist-info": "beaker/cache.py,,\n",
        "beakerlib-2.dist-info": "beakerlib/cache.py,,\nx/beaker/cache.py,,\n",
        "egg-3.egg-info": "beaker/cache.py\n",
        "empty-2.dist-info": None,
    }.items():
        metadata, record = ("METADATA", "RECORD") if name.endswith("dist-info") else ("PKG-INFO", "SOURCES.txt")
        (tmp_path / name).mkdir()
        named, _, version = name.rpartition(".")[0].partition("-")
        (tmp_path / name / metadata).write_text(f"Metadata-Version: 2.1\nName: {named}\nVersion: {version}\n")
        if files is not None:
            (tmp_path / name / record).write_text(files)
    (tmp_path / "beaker").mkdir()
    (tmp_path / "beaker" / "cache.py").touch()
    report = Report()
    checks.of_distributions(report, distributions(path=[str(tmp_path)]))
    found = {finding.message.split()[2]: finding for finding in report.findings}
    assert {(finding.severity, finding.code) for finding in found.values()} == {
        ("error", "deploy.foreign-distribution")
    }
    assert set(found) == {"beaker", "first", "egg"}
    assert "beaker 1.14.1" in found["beaker"].message
    assert "pip uninstall beaker," in found["beaker"].fix


class _Dated(BaseHTTPRequestHandler):
    date: str | None = None
    status = 200

    def do_HEAD(self) -> None:
        self.send_response_only(self.status)
        if self.date is not None:
            self.send_header("Date", self.date)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def dated() -> Iterator[tuple[str, type[_Dated]]]:
    handler = type("Handler", (_Dated,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", handler
        server.shutdown()
        thread.join(10)


def test_the_clock_is_compared_with_a_server(dated: tuple[str, type[_Dated]]) -> None:
    """The offset is found from a response's date, an error's too; no date is an error."""
    url, handler = dated
    handler.date, handler.status = formatdate(1_700_000_000, usegmt=True), 404
    assert abs(clock_offset(url, clock=lambda: 1_700_000_100.0) - 100) < 10
    handler.date = None
    with pytest.raises(ValueError):
        clock_offset(url)
    with pytest.raises(ValueError):
        clock_offset("file:///etc/passwd")


def test_a_wrong_clock_is_an_error_and_no_answer_a_warning(dated: tuple[str, type[_Dated]]) -> None:
    """--check-clock ends with status 1 for a clock that is minutes off."""
    url, handler = dated
    handler.date = formatdate(1_000_000_000, usegmt=True)
    out = io.StringIO()
    assert main(["explain", "--json", "--check-clock", url], out=out) == 1
    assert "deploy.clock-skew" in out.getvalue()
    out = io.StringIO()
    main(["explain", "--json", "--check-clock", "http://127.0.0.1:1/"], out=out)
    assert "deploy.clock-unknown" in out.getvalue()


def test_small_offsets_are_no_finding() -> None:
    """Seconds are within what a date header shows; a minute is a warning, more an error."""
    weights = []
    for offset in (4.0, -30.0, 90.0):
        report = Report()
        checks.of_clock(report, offset, "somewhere")
        weights.append([finding.severity for finding in report.findings])
    assert weights == [[], ["warning"], ["error"]]


def test_json_and_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """--json prints one object; the status is 1 with errors and 0 without."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    assert main(["explain", "--json"], out=out) == 0
    told = json.loads(out.getvalue())
    assert told["ok"] is True
    assert {"name", "value", "reason"} == set(told["detected"][0])
    assert {"scope", "option", "value", "origin", "reason"} == set(told["options"][0])
    monkeypatch.setenv("BEAKER_SESSION_TYPE", "memory")
    out = io.StringIO()
    assert main(["explain"], out=out) == 1
    assert "ERROR deploy.local-sessions" in out.getvalue()
    monkeypatch.setenv("BEAKER_PLATFORM", "moon")
    assert main(["explain"], out=io.StringIO()) == 1


def test_it_works_without_any_package() -> None:
    """An interpreter that sees nothing but this package and the standard library can explain."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from beaker.__main__ import main; sys.exit(main(['explain']))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "extra google" in done.stdout
    assert "not installed" in done.stdout


def test_nothing_is_made_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explaining a configuration of files creates no directory and no file."""
    monkeypatch.chdir(tmp_path)
    of_variables({"BEAKER_SESSION_TYPE": "file", "BEAKER_SESSION_DATA_DIR": "data", "BEAKER_CACHE_TYPE": "dbm",
                  "BEAKER_CACHE_DATA_DIR": "data", "BEAKER_SESSION_SECRET": KEY})  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_foreign_types_are_shown_without_values() -> None:
    """Options of a backend that is not ours may be anything: they are named, not shown."""
    report = of_variables({**QUIET, "BEAKER_CACHE_TYPE": "nosuch", "BEAKER_CACHE_PASSPHRASE": "hush"})
    assert "hush" not in report.to_text() + report.to_json()
    assert row(report, "passphrase", "cache") == ("<set>", "environment", "BEAKER_CACHE_PASSPHRASE")


class TestEviction:
    """Points of revocation that a full store may drop."""

    HYBRID: Mapping[str, str] = {"BEAKER_SESSION_SECRET": KEY, "BEAKER_SESSION_TYPE": "hybrid"}

    @pytest.mark.parametrize(
        ("more", "severity"),
        [
            ({"STORE": "ext:memcached", "URL": "127.0.0.1:1"}, "warning"),
            ({"TYPE": "cookie", "REVOCATION": "ext:memcached", "URL": "127.0.0.1:1"}, "warning"),
            ({"TYPE": "ext:memcached", "URL": "127.0.0.1:1"}, "note"),
            ({"STORE": "memory", "REVOCATION": "ext:memcached", "URL": "127.0.0.1:1"}, "warning"),
            ({"STORE": "memory"}, None),
            ({"TYPE": "cookie"}, None),
            ({"STORE": "ext:memcached", "URL": "127.0.0.1:1", "REVOCATION": "false"}, None),
        ],
    )
    def test_memcached_always_evicts(self, more: Mapping[str, str], severity: str | None) -> None:
        """A warning where sessions travel in cookies, a note where they are in the store themselves."""
        environ = {**self.HYBRID, **{f"BEAKER_SESSION_{name}": value for name, value in more.items()}}
        finding = found(environ).get("deploy.evicting-store")
        assert (finding and finding.severity) == severity

    @pytest.mark.parametrize("examine", [of_variables, doctor.examine], ids=["explain", "doctor"])
    def test_redis_is_asked_for_its_policy(
        self, examine: Any, redis_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only when told to connect: what it evicts is a finding, and so is one that cannot be asked."""
        redis = pytest.importorskip("redis")
        monkeypatch.chdir(tmp_path)
        # It reads every file's name of every distribution.
        monkeypatch.setattr(checks, "of_distributions", lambda report: None)
        environ = {**self.HYBRID, "BEAKER_SESSION_STORE": "ext:redis", "BEAKER_SESSION_URL": redis_server.url}

        def codes(connect: bool, **more: str) -> dict[str, str]:
            findings = examine({**environ, **more}, connect=connect).findings
            return {f.code: f.message for f in findings if "evict" in f.code}

        assert list(codes(False)) == ["deploy.eviction-unknown"]
        with redis.Redis.from_url(redis_server.url) as client:
            for limit, policy, told in (
                ("0", "allkeys-lru", False),
                ("100mb", "noeviction", False),
                ("100mb", "allkeys-lru", True),
                ("100mb", "volatile-ttl", True),
            ):
                client.config_set("maxmemory", limit)
                client.config_set("maxmemory-policy", policy)
                seen = codes(True)
                assert list(seen) == (["deploy.evicting-store"] if told else []), policy
                assert not told or policy in seen["deploy.evicting-store"]
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
        assert list(codes(True, BEAKER_SESSION_URL="redis://u:secret@127.0.0.1:1/0")) == ["deploy.eviction-unknown"]

    def test_redis_is_asked_what_it_keeps(self, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Snapshots alone are a warning: what ended since the last opens again. All or nothing is none."""
        redis = pytest.importorskip("redis")
        monkeypatch.setattr(checks, "of_distributions", lambda report: None)
        environ = {**self.HYBRID, "BEAKER_SESSION_STORE": "ext:redis", "BEAKER_SESSION_URL": redis_server.url}

        def told() -> str | None:
            findings = of_variables(environ, connect=True).findings
            return next((f.severity for f in findings if f.code == "deploy.snapshots-only"), None)

        with redis.Redis.from_url(redis_server.url) as client:
            assert told() is None
            client.config_set("save", "3600 1")
            assert told() == "warning"
            client.config_set("appendonly", "yes")
            assert told() is None
            client.config_set("appendonly", "no")
            client.config_set("save", "")

    def test_the_option_asks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """--check-stores connects, and what cannot be reached is a warning without the address."""
        for name, value in {**self.HYBRID, "BEAKER_SESSION_STORE": "ext:redis"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("BEAKER_SESSION_URL", "redis://u:secret@127.0.0.1:1/0")
        out = io.StringIO()
        main(["explain", "--json", "--check-stores"], out=out)
        assert "deploy.eviction-unknown" in out.getvalue()
        assert "StoreUnavailable" in out.getvalue()
        assert "u:secret" not in out.getvalue()
