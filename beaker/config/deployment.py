"""What a deployment runs with where its variables say nothing: a laptop's files and kept key, one key for caches too.

``gae.settings`` runs by it, ``explain``, the doctor and ``purge`` look by it, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from beaker.config.environment import Given
from beaker.config.names import CACHE, SESSION, is_builtin
from beaker.config.options import PLACES
from beaker.runtime import Runtime

__all__ = ["HOW_TO_MAKE_A_SECRET", "KEPT_SECRET", "LAPTOP", "complete", "data_directory", "is_keyed", "kept_secret"]

KEPT_SECRET: Final = "session-secret"
"""Name of the file, in the data directory, that keeps a laptop's session secret."""
LAPTOP: Final = "laptop default"
"""The origin of options that a laptop has because nothing else was said."""
_Kept = Callable[[Path], str | list[str] | None]
HOW_TO_MAKE_A_SECRET: Final = (
    "make one with `python -m beaker keys new` and set BEAKER_SESSION_SECRET to it, or BEAKER_SESSION_SECRET_FILE to a"
    " mounted file, or BEAKER_SESSION_SECRET=secret:projects/P/secrets/S/versions/V; never write it into app.yaml"
)


def data_directory(environ: Mapping[str, str], directory: Path | None = None) -> Path:
    """Where a laptop keeps its data: ``BEAKER_DATA_DIR``, else ``data`` below ``directory`` (default: the current)."""
    named = environ.get("BEAKER_DATA_DIR", "").strip()
    return Path(named) if named else (directory or Path.cwd()) / "data"


def is_keyed(given: Given) -> bool:
    """Whether an option names a key for sessions."""
    return bool(given.session.get("secret") or given.session.get("validate_key"))


def kept_secret(path: Path) -> str | None:
    """The secret that an earlier start has kept at ``path``, as an option's value; ``None`` before the first."""
    return f"file:{path}" if path.exists() else None


def complete(given: Given, runtime: Runtime, data_dir: Path, *, secret: _Kept) -> None:
    """Fill in what ``given`` leaves open. What it says stays.

    - On a laptop sessions and caches without a type are files below ``data_dir``, and a laptop's session key is what
      ``secret`` returns for the path it is kept at (``None``: none is).
    - Everywhere caches without a key sign with the session's: subkeys are derived by purpose, so one is enough.
    """
    if runtime.durable_disk:
        found = None if is_keyed(given) else secret(data_dir / KEPT_SECRET)
        if found is not None:
            given.put("session", "secret", found, LAPTOP)
        for scope, options in ((SESSION, given.session), (CACHE, given.cache)):
            own = "namespace_class" in options
            # The address of a store says that files are not meant: without its type it is refused, not passed over.
            if "type" not in options and not own and not {*PLACES, "store"} & options.keys():
                given.put(scope.where, "type", "file", LAPTOP)
            if "data_dir" not in options and is_builtin(scope.store_type(options)) and not own:
                given.put(scope.where, "data_dir", str(data_dir / scope.where), LAPTOP)
    signing = next((name for name in ("secret", "validate_key") if given.session.get(name)), None)
    if "secret" not in given.cache and signing is not None:
        given.put("cache", "secret", given.session[signing], f"session.{signing}")
