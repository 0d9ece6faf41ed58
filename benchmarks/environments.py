"""The interpreters that hold what Beaker is measured beside: created at first use, with pinned versions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.row import FLOOR

ROOT = Path(__file__).resolve().parent.parent


def shared(*names: str) -> tuple[str, ...]:
    """Requirements for the very versions that this interpreter has, so that clients are the same on both sides."""
    return tuple(f"{name}=={metadata.version(name.partition('[')[0])}" for name in names)


@dataclass(frozen=True)
class Environment:
    """A virtual environment in ``.venv-NAME``, with exactly ``requirements`` asked for."""

    name: str
    requirements: tuple[str, ...]

    def python(self) -> str:
        """Its interpreter. Rebuilt when the requirements have changed, which needs a package index."""
        folder = ROOT / f".venv-{self.name}"
        python, stamp = folder / "bin" / "python", folder / ".requirements"
        wanted = "\n".join(self.requirements)
        if not stamp.exists() or stamp.read_text("utf-8") != wanted:
            print(f"Making {folder.name} (once) ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, *self.requirements], check=True)
            stamp.write_text(wanted, "utf-8")
        return str(python)


CLIENTS = shared("SQLAlchemy", "pymemcache", "redis", "Flask", "gunicorn")

UPSTREAM = Environment(
    "upstream",
    ("Beaker==1.14.1", "python-memcached==1.62", *shared("psycopg[binary]", "cryptography"), *CLIENTS),
)
PEERS = Environment(
    "peers",
    (
        "dogpile.cache==1.5.0",
        "cachetools==8.0.2",
        "diskcache==5.6.3",
        "cachelib==0.17.0",
        "Django==5.2.19",
        "Flask-Session==0.8.0",
        "starlette==1.10.0",
        "itsdangerous==2.2.0",
        *CLIENTS,
    ),
)
PLOTTING = Environment("plot", ("matplotlib==3.10.8",))


OURS = ("ours", "uncounted", FLOOR, "ndb")
"""What runs in this interpreter. ``uncounted`` is ours without the line that counts a hit."""


def python_of(implementation: str) -> str:
    """The interpreter that has ``ours``, ``beaker``, ``floor`` or a peer."""
    if implementation in OURS:
        return sys.executable
    return (UPSTREAM if implementation == "beaker" else PEERS).python()


def prepare(implementations: Iterable[str]) -> None:
    """Create those environments that are missing, side by side."""
    names = set(implementations) - set(OURS)
    wanted = [*([UPSTREAM] if "beaker" in names else []), *([PEERS] if names - {"beaker"} else [])]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(Environment.python, wanted):
            pass


def title(implementation: str) -> str:
    return "Beaker 1.14.1" if implementation == "beaker" else implementation
