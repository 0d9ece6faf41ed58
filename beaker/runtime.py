"""What the platform can do, asked once: capabilities instead of platform names.

This is the only module of Beaker that reads the process environment. Detection looks at variables; it
never opens a connection (the metadata server blocks for seconds where there is none).

==================  ===========================================================  ================
platform            detected by                                                  serverless
==================  ===========================================================  ================
``appengine``       ``GAE_ENV=standard``                                         yes
``appengine-flex``  ``GAE_ENV=flex``, or ``GAE_INSTANCE`` without ``GAE_ENV``    yes
``appengine-dev``   ``GAE_ENV=localdev`` (dev_appserver)                         no
``functions``       ``K_SERVICE`` and ``FUNCTION_TARGET``                        yes
``cloudrun``        ``K_SERVICE``                                                yes
``job``             ``CLOUD_RUN_JOB``                                            yes
``functions-dev``   ``FUNCTION_TARGET`` alone (functions-framework on a laptop)  no
``local``           none of these                                                no
==================  ===========================================================  ================

``BEAKER_PLATFORM`` set to one of these names overrides the detection.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import NamedTuple

from beaker.exceptions import ConfigError

__all__ = ["Platform", "Runtime", "current", "override"]


class Platform(str, enum.Enum):
    """Where the process runs."""

    APPENGINE = "appengine"
    APPENGINE_FLEX = "appengine-flex"
    APPENGINE_DEV = "appengine-dev"
    FUNCTIONS = "functions"
    FUNCTIONS_DEV = "functions-dev"
    CLOUD_RUN = "cloudrun"
    JOB = "job"
    LOCAL = "local"


_SERVERLESS = frozenset(
    {Platform.APPENGINE, Platform.APPENGINE_FLEX, Platform.FUNCTIONS, Platform.CLOUD_RUN, Platform.JOB}
)


class Runtime(NamedTuple):
    """What this process may rely on. Build one by :meth:`detect`, or by hand in a test."""

    platform: Platform = Platform.LOCAL
    project: str | None = None
    """Google Cloud project id, when a variable names it."""
    emulator_host: str | None = None
    """``host:port`` of a Datastore emulator (``DATASTORE_EMULATOR_HOST``)."""
    temp_dir: str = "/tmp"
    firebase_hosting: bool = False
    """Firebase deployed the service (``FIREBASE_CONFIG``): its Hosting passes on one cookie, ``__session``."""
    memory_limit: int | None = None
    """Bytes of memory the instance has, when the platform says so (``GAE_MEMORY_MB``)."""

    @property
    def serverless(self) -> bool:
        """Instances come and go and share nothing: no local disk or memory is common to them."""
        return self.platform in _SERVERLESS

    @property
    def file_locks(self) -> bool:
        """A file lock means something: one disk is shared by the processes that must agree."""
        return not self.serverless and os.name == "posix"

    @property
    def durable_disk(self) -> bool:
        """What is written to the file system is there tomorrow (on serverless it is instance memory)."""
        return not self.serverless

    @property
    def background_threads(self) -> bool:
        """The processor runs outside requests (Cloud Run and Functions freeze it after the response)."""
        return not self.serverless

    @property
    def https(self) -> bool:
        """The platform's front end speaks HTTPS to the browser, whatever scheme the request shows."""
        return self.serverless

    @classmethod
    def detect(cls, environ: Mapping[str, str]) -> Runtime:
        """Read ``environ``. Raises ConfigError when ``BEAKER_PLATFORM`` names no platform."""
        memory = environ.get("GAE_MEMORY_MB", "")
        return cls(
            platform=_platform(environ),
            project=(
                environ.get("DATASTORE_DATASET")
                or environ.get("DATASTORE_PROJECT_ID")
                or environ.get("GOOGLE_CLOUD_PROJECT")
                or environ.get("GCLOUD_PROJECT")
                or environ.get("GCP_PROJECT")
                or _project_of(environ.get("GAE_APPLICATION", ""))
            ),
            emulator_host=environ.get("DATASTORE_EMULATOR_HOST") or None,
            temp_dir=environ.get("TMPDIR") or _default_temp_dir(),
            firebase_hosting=bool(environ.get("FIREBASE_CONFIG")),
            memory_limit=int(memory) * 1024 * 1024 if memory.isdigit() else None,
        )


def _project_of(application: str) -> str | None:
    # GAE_APPLICATION is "<region>~<project>"; the region prefix is not part of the project id.
    return application.rpartition("~")[2] or None


def _default_temp_dir() -> str:
    if os.name == "posix":
        return "/tmp"
    # Its module loads shutil and every compressor, which a start on posix can do without.
    import tempfile

    return tempfile.gettempdir()


def _platform(environ: Mapping[str, str]) -> Platform:
    forced = environ.get("BEAKER_PLATFORM")
    if forced:
        try:
            return Platform(forced)
        except ValueError:
            names = ", ".join(platform.value for platform in Platform)
            raise ConfigError("BEAKER_PLATFORM names no platform", option="BEAKER_PLATFORM", expected=names) from None
    gae = environ.get("GAE_ENV", "")
    if gae == "standard":
        return Platform.APPENGINE
    if gae == "localdev":
        return Platform.APPENGINE_DEV
    if gae or environ.get("GAE_INSTANCE"):
        return Platform.APPENGINE_FLEX
    if environ.get("K_SERVICE"):
        return Platform.FUNCTIONS if environ.get("FUNCTION_TARGET") else Platform.CLOUD_RUN
    if environ.get("CLOUD_RUN_JOB"):
        return Platform.JOB
    return Platform.FUNCTIONS_DEV if environ.get("FUNCTION_TARGET") else Platform.LOCAL


_override: Runtime | None = None
_detected: tuple[tuple[str | None, ...], Runtime] | None = None
_VARIABLES = (
    "BEAKER_PLATFORM", "GAE_ENV", "GAE_INSTANCE", "GAE_APPLICATION", "GAE_MEMORY_MB", "K_SERVICE", "FUNCTION_TARGET",
    "CLOUD_RUN_JOB", "DATASTORE_DATASET", "DATASTORE_PROJECT_ID", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT",
    "GCP_PROJECT", "DATASTORE_EMULATOR_HOST", "FIREBASE_CONFIG", "TMPDIR",
)  # fmt: skip


def current() -> Runtime:
    """The runtime of this process: the override if there is one, else what the environment says now.

    Called when something is configured, not per request.
    """
    global _detected
    if _override is not None:
        return _override
    seen = tuple(os.environ.get(name) for name in _VARIABLES)
    if _detected is None or _detected[0] != seen:
        _detected = (seen, Runtime.detect(os.environ))
    return _detected[1]


def override(runtime: Runtime | None) -> None:
    """Make :func:`current` return ``runtime``; ``None`` goes back to detection."""
    global _override
    _override = runtime


def environ() -> Mapping[str, str]:
    """The process's environment, for the command line; libraries are configured by options."""
    return os.environ
