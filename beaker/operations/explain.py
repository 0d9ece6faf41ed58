"""What Beaker will do here and why: the surroundings, every option in force with its origin, what is wrong.

Looks only: nothing is connected, written or created. The deployment kit adds its own to the same report.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import beaker
from beaker.clock import now as default_clock
from beaker.config.deployment import complete, data_directory, is_keyed, kept_secret
from beaker.config.environment import Given, read
from beaker.config.extras import EXTRAS, how_to_install
from beaker.config.options import SessionOptions
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError
from beaker.operations import application, checks
from beaker.operations.effective import cache_rows, session_rows
from beaker.operations.report import Detected, Report
from beaker.operations.terminal import Terminal
from beaker.runtime import Runtime
from beaker.storage import breaker

__all__ = [
    "add_arguments", "clock_offset", "examine", "of_application", "of_parsed", "of_variables", "show",
]  # fmt: skip

_CLOCK_SECONDS = 5.0
_SIGNING = {"BEAKER_SESSION_SECRET", "BEAKER_SESSION_VALIDATE_KEY"}

_SIGNS = {
    "appengine": ("GAE_ENV",),
    "appengine-dev": ("GAE_ENV",),
    "appengine-flex": ("GAE_ENV", "GAE_INSTANCE"),
    "functions": ("K_SERVICE", "FUNCTION_TARGET"),
    "cloudrun": ("K_SERVICE",),
    "job": ("CLOUD_RUN_JOB",),
    "functions-dev": ("FUNCTION_TARGET",),
}
_PROJECT = (
    "DATASTORE_DATASET", "DATASTORE_PROJECT_ID", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT",
    "GAE_APPLICATION",
)  # fmt: skip


def examine(
    given: Given,
    runtime: Runtime,
    environ: Mapping[str, str],
    *,
    directory: Path | None = None,
    connect: bool = False,
) -> Report:
    """The report on a deployment whose variables say ``given``, in the surroundings ``runtime`` (found in ``environ``).

    What is left open counts as the deployment kit fills it in for an application started in ``directory`` (default:
    the current one). Never raises for options that are wrong: each is a finding. Values of secret options are not in
    it, and nothing is made. With ``connect`` stores are asked what only they know.
    """
    report = Report(detected=[*_surroundings(runtime, environ), *_installed(), *_circuits()])
    checks.of_variables(report, given, environ)
    _complete(report, given, runtime, data_directory(environ, directory))
    sessions = _parsed(report, given.session_options)
    caches = _parsed(report, given.cache_options)
    judge(report, given, sessions, caches, runtime, environ, connect=connect)
    return report


def judge(
    report: Report,
    given: Given,
    sessions: SessionOptions | None,
    caches: Mapping[str, Any] | None,
    runtime: Runtime,
    environ: Mapping[str, str],
    *,
    connect: bool,
    distributions: bool = True,
    built: bool = False,
) -> None:
    """Add the rows and findings of parsed options, whose origins are in ``given``.

    ``distributions``: look for others that own files in ``beaker/``, which reads what every one of them owns.
    ``built``: the options are those of middlewares that there are.
    """
    if sessions is not None:
        kind = checks.of_sessions(report, sessions, runtime, built=built)
        if kind:
            checks.of_points(report, sessions, kind, runtime, connect=connect)
        report.options += session_rows(sessions, kind, given, runtime)
    if caches is not None:
        checks.of_caches(report, caches, runtime)
        report.options += cache_rows(caches, given, runtime)
    types = [] if sessions is None else [checks.store_behind(sessions, runtime)]
    types += [] if caches is None else [options.get("type") for options in (caches, *caches["cache_regions"].values())]
    checks.of_datastore(report, [kind for kind in types if kind], sessions, caches, runtime, environ)
    if distributions:
        checks.of_distributions(report)


def of_parsed(
    given: Given,
    sessions: SessionOptions | None,
    caches: Mapping[str, Any] | None,
    runtime: Runtime,
    environ: Mapping[str, str],
) -> Report:
    """The report on options that an application runs with, whose origins are in ``given``; distributions aside."""
    report = Report(detected=[*_surroundings(runtime, environ), *_installed()])
    judge(report, given, sessions, caches, runtime, environ, connect=False, distributions=False)
    return report


def of_application(
    name: str, environ: Mapping[str, str], *, directory: Path | None = None, connect: bool = False
) -> Report:
    """The report on the application ``name``, ``module:attribute``, which is imported and so runs its own code.

    What it composed is reported: the options of its middlewares, with what its own arguments said. What is wrong with
    them is a finding; ConfigError when there is no such application, or nothing of Beaker around it.
    """
    runtime = Runtime.detect(environ)
    report = Report(detected=[*_surroundings(runtime, environ), *_installed()])
    try:
        found = application.composed(name, directory or Path.cwd())
    except ConfigError as error:
        if error.code == application.CODE:
            raise
        checks.of_error(report, error)
        return report
    report.detected.append(Detected("application", name, found.what))
    found_runtime = found.runtime or runtime
    judge(report, found.given, found.sessions, found.caches, found_runtime, environ, connect=connect, built=True)
    return report


def _complete(report: Report, given: Given, runtime: Runtime, data_dir: Path) -> None:
    """Fill ``given`` in as a start would, with stand-ins for keys that only a start creates or reads."""
    unusable = {error.option.removesuffix("_FILE") for error in given.errors} & _SIGNING
    if unusable and not is_keyed(given):
        # Its own finding says what is wrong with it: a stand-in keeps further findings from following.
        given.put("session", "secret", new_key(), "unusable")

    def kept(path: Path) -> str:
        found = kept_secret(path)
        if found is None:
            report.add(
                "note",
                "deploy.key-to-be-made",
                "the first start creates a session secret and keeps it",
                f"nothing to do: it will be in {path}",
            )
        return found or new_key()

    complete(given, runtime, data_dir, secret=kept)


def _parsed(report: Report, parse: Any) -> Any:
    with checks.warned(report):
        try:
            return parse()
        except ConfigError as error:
            checks.of_error(report, error)
            return None


def _surroundings(runtime: Runtime, environ: Mapping[str, str]) -> list[Detected]:
    def first(names: Iterable[str]) -> str:
        return ", ".join(name for name in names if environ.get(name))

    sign = "BEAKER_PLATFORM" if environ.get("BEAKER_PLATFORM") else first(_SIGNS.get(runtime.platform.value, ()))
    named = next((name for name in _PROJECT if environ.get(name)), "no variable names one")
    gone = "instances come and go, and share nothing"
    return [
        Detected("platform", runtime.platform.value, sign or "no variable of a platform is set"),
        Detected("project", runtime.project or "none", named),
        Detected(
            "Datastore emulator",
            runtime.emulator_host or "none",
            "DATASTORE_EMULATOR_HOST" if runtime.emulator_host else "",
        ),
        Detected("disk lasts", _yes(runtime.durable_disk), gone if runtime.serverless else ""),
        Detected("file locks", _yes(runtime.file_locks), gone if runtime.serverless else ""),
        Detected("memory", f"{runtime.memory_limit:,} bytes", "GAE_MEMORY_MB")
        if runtime.memory_limit
        else Detected("memory", "unknown"),
        Detected("python", ".".join(map(str, sys.version_info[:3])), sys.executable),
        Detected("beaker", beaker.__version__, str(Path(beaker.__file__ or "").parent)),
    ]


def _circuits() -> list[Detected]:
    # Of this process: a report that an application makes of itself has some, the command line has none.
    return [
        Detected(f"circuit to {state.backend} {state.place}", state.state, f"{state.failures} calls without a response")
        for state in breaker.states()
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _installed() -> list[Detected]:
    rows = []
    for extra, (module, distribution) in EXTRAS.items():
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        try:
            value = version(distribution) if found else "not installed"
        except PackageNotFoundError:
            value = "installed"
        rows.append(Detected(f"extra {extra}", value, "" if found else how_to_install(extra)))
    return rows


def of_variables(environ: Mapping[str, str], *, connect: bool = False) -> Report:
    """The report on what the ``BEAKER_`` variables of ``environ`` amount to, without reading Secret Manager."""
    runtime = Runtime.detect(environ)
    # Nothing is sealed with it, so any good key stands for a secret that only the deployment kit can read.
    given = read(environ, resolve=lambda reference, variable: new_key())
    report = examine(given, runtime, environ, connect=connect)
    for path in [path for path, origin in given.origins.items() if origin == "secret manager"]:
        report.add(
            "note",
            "deploy.secret-not-read",
            f"{path} is in Secret Manager and was not read",
            "python -m gae.doctor reads it",
        )
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m beaker explain`` and ``python -m gae.doctor``."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--all", action="store_true", help="show options that were not set, too (JSON always does)")
    parser.add_argument(
        "--check-stores",
        action="store_true",
        help="ask a Redis that keeps revocation points whether it evicts, or keeps snapshots only",
    )
    parser.add_argument(
        "--check-clock",
        metavar="URL",
        type=_address,
        help="compare this machine's clock with the Date header of a server's response",
    )


def _address(text: str) -> str:
    if not text.lower().startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("an http or https address is expected")
    return text


def show(asked: argparse.Namespace, environ: Mapping[str, str], build: Callable[..., Report], out: Terminal) -> int:
    """Show the report that ``build`` returns for ``environ``; the exit status is 1 when there is an error in it."""
    try:
        report = build(environ, connect=asked.check_stores)
    except ConfigError as error:
        report = Report()
        checks.of_error(report, error)
    if asked.check_clock:
        try:
            checks.of_clock(report, clock_offset(asked.check_clock), asked.check_clock)
        except (OSError, ValueError) as error:
            report.add(
                "warning",
                "deploy.clock-unknown",
                f"{asked.check_clock} did not report a time ({type(error).__name__})",
                "name an http or https address that replies",
            )
    if asked.json:
        out.line(report.to_json())
    else:
        report.show(out, defaults=asked.all)
    hidden = sum(row.origin == "default" for row in report.options)
    if hidden and not (asked.json or asked.all):
        out.line("")
        out.say(f"{hidden} options have their default; --all shows them")
    return 0 if report.ok else 1


def clock_offset(url: str, *, clock: Callable[[], float] = default_clock) -> float:
    """Seconds this clock is ahead of the server at ``url`` (http or https), to about a second.

    Raises OSError when it does not reply within 5 seconds, ValueError when its response has no date.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("an http or https address is expected")
    started, before = time.monotonic(), clock()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_CLOCK_SECONDS) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        # A refusal is dated too.
        date = error.headers.get("Date")
        error.close()
    if not date:
        raise ValueError("the response has no Date header")
    # The header has whole seconds: the middle of one is the best guess.
    return before + (time.monotonic() - started) / 2 - (parsedate_to_datetime(date).timestamp() + 0.5)
