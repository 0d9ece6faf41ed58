"""The Pythons of this machine that the project supports."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")


def interpreters() -> dict[str, Path]:
    """Every supported Python on ``PATH`` or of pyenv, by version; the running one always."""
    found = {}
    for version in SUPPORTED:
        places = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}*/bin/python{version}"))
        on_path = shutil.which(f"python{version}")
        # A shim of pyenv runs what the directory it is called from wants, or nothing.
        if on_path and Path(on_path).parent.name != "shims":
            places.insert(0, Path(on_path))
        if places:
            found[version] = places[0]
    return {**found, "{}.{}".format(*sys.version_info): Path(sys.executable)}
