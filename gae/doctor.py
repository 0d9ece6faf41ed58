"""``python -m gae.doctor``: the report of ``python -m beaker explain``, with what only a deployment knows.

Reads the secrets that variables name; creates, writes and connects to nothing else.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from beaker.config.environment import read, region_name
from beaker.exceptions import ConfigError
from beaker.operations.application import given_of
from beaker.operations.arguments import Parser
from beaker.operations.checks import of_error
from beaker.operations.choice import terminal_of
from beaker.operations.explain import add_arguments, of_parsed, show
from beaker.operations.explain import examine as examine_options
from beaker.operations.program import status_of
from beaker.operations.report import OptionRow, Report
from beaker.runtime import Platform, Runtime
from beaker.runtime import environ as process_environ
from gae.secret_manager import read_secret
from gae.settings import Settings, Tasks, console_options

if TYPE_CHECKING:
    from gae.console_options import ConsoleOptions

__all__ = ["examine", "main", "of_settings"]

_IN_APP_YAML = re.compile(
    r"^[ \t]*(BEAKER_(?:SESSION|CACHE|TASKS|CONSOLE)_(?:\w+__)?"
    r"(?:SECRET|SECRET_FALLBACKS|VALIDATE_KEY|ENCRYPT_KEY))[ \t]*:"
    r"[ \t]*['\"]?(?!secret:)[^\s'\"#]",
    re.MULTILINE,
)


_ENV_VARIABLES = re.compile(r"^env_variables[ \t]*:[ \t]*(?:#.*)?\n((?:[ \t]+.*\n|#.*\n|\n)*)", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:runtime|service|env|vm|env_variables)[ \t]*:", re.MULTILINE)
_ON_ONE_LINE = re.compile(r"^env_variables[ \t]*:[ \t]*(?!\{\}|null\b|~)[^\s#]", re.MULTILINE)
_VARIABLE = re.compile(r"^[ \t]+([A-Za-z_]\w*)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"""(?:'((?:[^']|'')*)'|"([^"]*)")[ \t]*(?:#.*)?$""")


def examine(
    environ: Mapping[str, str],
    *,
    directory: Path | None = None,
    app_yaml: Path | None = None,
    secrets_client: Any = None,
    connect: bool = False,
) -> Report:
    """The report on a deployment configured by ``environ``, started in ``directory`` (default: the current one).

    ``app_yaml``: the file that says so, where its name does not tell. ``connect`` as for
    ``beaker.operations.explain.examine``. Raises ConfigError only when ``BEAKER_PLATFORM`` names no platform.
    """
    runtime = Runtime.detect(environ)
    given = read(
        environ, resolve=lambda reference, option: read_secret(reference, option=option, client=secrets_client)
    )
    directory = directory or Path.cwd()
    report = examine_options(given, runtime, environ, directory=directory, connect=connect)
    _tasks(report, runtime, environ, secrets_client)
    _console(report, runtime, environ, secrets_client)
    _app_yaml(report, directory, app_yaml)
    _scheduled(report, directory)
    return report


def of_settings(settings: Settings, environ: Mapping[str, str], *, directory: Path | None = None) -> Report:
    """The report on an application that runs with ``settings``, by that application itself.

    Nothing is read but files named app*.yaml and cron.yaml in ``directory`` (default: the current one), and other
    distributions are not looked for: :func:`beaker.operations.checks.of_distributions` takes its time.
    """
    directory = directory or Path.cwd()
    report = of_parsed(given_of(settings), settings.session, settings.cache, settings.runtime, environ)
    _of_tasks(report, settings.tasks, settings.runtime)
    _of_console(report, settings.console)
    _app_yaml(report, directory)
    _scheduled(report, directory)
    return report


def _tasks(report: Report, runtime: Runtime, environ: Mapping[str, str], client: Any) -> None:
    try:
        tasks = Tasks.from_environ(environ, client=client)
    except ConfigError as error:
        of_error(report, error)
        return
    _of_tasks(report, tasks, runtime)


def _console(report: Report, runtime: Runtime, environ: Mapping[str, str], client: Any) -> None:
    try:
        options = console_options(environ, client=client)
        if options is not None:
            options.knows_admins(runtime)
    except ConfigError as error:
        of_error(report, error)
        return
    _of_console(report, options)


def _of_console(report: Report, options: ConsoleOptions | None) -> None:
    if options is None:
        report.options.append(OptionRow("console", "console", "false", "default"))
        return
    shown = {
        "path": options.path,
        "secret": "<set>" if options.secret else "",
        "iap_audience": options.iap_audience or "",
        "iap_users": ", ".join(options.iap_users),
        "appengine_admin": "true" if options.appengine_admin else "",
        "prices": ", ".join(options.prices),
    }
    report.options += [
        OptionRow("console", name, value or "-", "set" if value else "default") for name, value in shown.items()
    ]


def _of_tasks(report: Report, tasks: Tasks, runtime: Runtime) -> None:
    shown = {
        "audience": tasks.audience,
        "service_accounts": ", ".join(tasks.service_accounts),
        "secret": "<set>" if tasks.secret else None,
        "warmup_regions": ", ".join(tasks.warmup_regions),
    }
    report.options += [
        OptionRow("tasks", name, value or "-", "environment" if value else "default") for name, value in shown.items()
    ]
    regions = {row.scope.removeprefix("cache.") for row in report.options if row.scope.startswith("cache.")}
    for name in tasks.warmup_regions:
        if region_name(name) not in regions:
            report.add(
                "warning",
                "deploy.unknown-region",
                f"BEAKER_WARMUP_REGIONS names {name}, and no variable configures a region of that name",
                "correct the name, or ignore this where the application configures the region itself",
            )
    if runtime.serverless and runtime.platform is not Platform.APPENGINE and not (tasks.audience or tasks.secret):
        report.add(
            "note",
            "deploy.nobody-may-purge",
            "/tasks/beaker/purge returns 403 to every caller: no OIDC audience and no shared secret are configured",
            "see gae/deploy/ttl.md: BEAKER_TASKS_AUDIENCE and BEAKER_TASKS_SERVICE_ACCOUNTS, or a TTL policy",
        )


def _app_yaml(report: Report, directory: Path, named: Path | None = None) -> None:
    paths = {path.absolute() for path in (*directory.glob("app*.y*ml"), *([] if named is None else [named]))}
    for path in sorted(paths):
        for found in _IN_APP_YAML.finditer(path.read_text("utf-8", "replace")):
            report.add(
                "error",
                "deploy.secret-in-app-yaml",
                f"{path.name} holds the value of {found[1]}: it is in version control and shown in the console",
                "create a new one, put it into Secret Manager, and secret:projects/P/secrets/S/versions/V here",
            )


def _scheduled(report: Report, directory: Path) -> None:
    """A cron.yaml that purges settles the question of a TTL policy."""
    if any("/tasks/beaker/purge" in path.read_text("utf-8", "replace") for path in directory.glob("cron.y*ml")):
        report.findings = [finding for finding in report.findings if finding.code != "deploy.no-ttl-policy"]


def main(arguments: Sequence[str] | None = None, *, out: TextIO | None = None) -> int:
    """Print the report on this process's environment, or on what an app.yaml says.

    The exit status is 1 when there is an error in it, 2 for a wrong call.
    """
    module = Path(sys.argv[0]).name == "doctor.py"
    parser = Parser(
        prog="python -m gae.doctor" if module else "beaker doctor",
        description="What a deployment runs with, and what is wrong.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--app-yaml",
        metavar="FILE",
        type=Path,
        help="report on a deployment of this file to App Engine, not on this shell",
    )
    asked = parser.parse_args(arguments)
    environ, directory = process_environ(), None
    shown = terminal_of(out or sys.stdout, environ)
    if asked.app_yaml is not None:
        try:
            environ = variables_of(asked.app_yaml.read_text("utf-8"))
        except (OSError, UnicodeError) as error:
            parser.error(f"--app-yaml: {asked.app_yaml} cannot be read ({type(error).__name__})")
        except ValueError as error:
            parser.error(f"--app-yaml: {asked.app_yaml} {error}")
        directory = asked.app_yaml.absolute().parent
    return show(asked, environ, functools.partial(examine, directory=directory, app_yaml=asked.app_yaml), shown)


def variables_of(app_yaml: str) -> dict[str, str]:
    """The ``env_variables`` of an app.yaml, as an instance has them, and its ``GAE_ENV``.

    Scalars on a line of their own are read, plain or quoted. Raises ValueError, saying why, for what is no app.yaml,
    and for variables that are written otherwise.
    """
    if not _TOP_LEVEL.search(app_yaml):
        raise ValueError("is no app.yaml: it has neither a runtime nor env_variables")
    if _ON_ONE_LINE.search(app_yaml):
        raise ValueError("has env_variables that are not read; write each on a line of its own, as NAME: value")
    block = _ENV_VARIABLES.search(app_yaml + "\n")
    found = dict(_VARIABLE.findall(block[1])) if block else {}
    flexible = re.search(r"^(?:env|vm)[ \t]*:[ \t]*(?:flex\w*|true)", app_yaml, re.MULTILINE)
    variables = {name: _scalar(text) for name, text in found.items()}
    return {"GAE_ENV": "flex" if flexible else "standard", **variables}


def _scalar(text: str) -> str:
    quoted = _QUOTED.match(text)
    if quoted is None:
        return re.split(r"[ \t]+#", text, maxsplit=1)[0].strip()
    return quoted[2] if quoted[1] is None else quoted[1].replace("''", "'")


if __name__ == "__main__":
    sys.exit(status_of(main))
