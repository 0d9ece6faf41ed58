"""``python -m gae.doctor``: the report of ``python -m beaker explain``, with what only a deployment knows.

Reads the secrets that variables name; creates, writes and connects to nothing else.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from beaker.config.environment import read, region_name
from beaker.exceptions import ConfigError
from beaker.operations.checks import of_error
from beaker.operations.explain import add_arguments, quietly, show
from beaker.operations.explain import examine as examine_options
from beaker.operations.report import OptionRow, Report
from beaker.runtime import Platform, Runtime
from beaker.runtime import environ as process_environ
from gae.secret_manager import read_secret
from gae.settings import Tasks

__all__ = ["examine", "main"]

_IN_APP_YAML = re.compile(
    r"^[ \t]*(BEAKER_(?:SESSION|CACHE|TASKS)_(?:\w+__)?(?:SECRET|SECRET_FALLBACKS|VALIDATE_KEY|ENCRYPT_KEY))[ \t]*:"
    r"[ \t]*['\"]?(?!secret:)[^\s'\"#]",
    re.MULTILINE,
)


_ENV_VARIABLES = re.compile(r"^env_variables[ \t]*:[ \t]*(?:#.*)?\n((?:[ \t]+.*\n|#.*\n|\n)*)", re.MULTILINE)
_VARIABLE = re.compile(r"^[ \t]+([A-Za-z_]\w*)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r"""(?:'((?:[^']|'')*)'|"([^"]*)")[ \t]*(?:#.*)?$""")


def examine(
    environ: Mapping[str, str], *, directory: Path | None = None, secrets_client: Any = None, connect: bool = False
) -> Report:
    """The report on a deployment configured by ``environ``, started in ``directory`` (default: the current one).

    ``connect`` as for ``beaker.operations.explain.examine``.
    Raises ConfigError only when ``BEAKER_PLATFORM`` names no platform.
    """
    runtime = Runtime.detect(environ)
    given = read(
        environ, resolve=lambda reference, option: read_secret(reference, option=option, client=secrets_client)
    )
    directory = directory or Path.cwd()
    report = examine_options(given, runtime, environ, directory=directory, connect=connect)
    _tasks(report, runtime, environ, secrets_client)
    _app_yaml(report, directory)
    _scheduled(report, directory)
    return report


def _tasks(report: Report, runtime: Runtime, environ: Mapping[str, str], client: Any) -> None:
    try:
        tasks = Tasks.from_environ(environ, client=client)
    except ConfigError as error:
        of_error(report, error)
        return
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


def _app_yaml(report: Report, directory: Path) -> None:
    for path in sorted(directory.glob("app*.y*ml")):
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
    parser = argparse.ArgumentParser(
        prog="python -m gae.doctor" if module else "beaker doctor",
        description="What a deployment runs with, and what is wrong.",
        allow_abbrev=False,
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
    if asked.app_yaml is not None:
        try:
            environ = {"NO_COLOR": environ.get("NO_COLOR", ""), **variables_of(asked.app_yaml.read_text("utf-8"))}
        except (OSError, UnicodeError) as error:
            parser.error(f"--app-yaml: {asked.app_yaml} cannot be read ({type(error).__name__})")
        directory = asked.app_yaml.absolute().parent
    return show(asked, environ, functools.partial(examine, directory=directory), out or sys.stdout)


def variables_of(app_yaml: str) -> dict[str, str]:
    """The ``env_variables`` of an app.yaml, as an instance has them, and its ``GAE_ENV``.

    Scalars on a line of their own are read, plain or quoted.
    """
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
    sys.exit(quietly(main))
