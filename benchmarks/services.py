"""The servers that rows need, started for the run on ports of their own and ended with it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gae import emulator
from tests import servers

ALL = ("memcached", "redis", "datastore", "wrk")


class Services:
    """``addresses`` of what runs, by name, and why the rest are ``missing``."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def lacking(self, names: Iterable[str]) -> str:
        """Why a row that needs all of ``names`` cannot run; empty when it can."""
        return "; ".join(f"no {name}: {self.missing[name]}" for name in sorted(names) if name in self.missing)


@contextlib.contextmanager
def running(names: Iterable[str]) -> Iterator[Services]:
    """Start those servers. One that is not installed is named in ``missing``."""
    found = Services()
    with contextlib.ExitStack() as stack:
        for name in sorted(names):
            try:
                found.addresses[name] = _start(name, stack)
            except (emulator.EmulatorNotFound, LookupError) as error:
                found.missing[name] = str(error)
            except (pytest.skip.Exception, pytest.fail.Exception) as absent:
                found.missing[name] = str(absent)
        yield found


def _start(name: str, stack: contextlib.ExitStack) -> str:
    if name == "memcached":
        return stack.enter_context(servers.memcached()).address
    if name == "redis":
        root = stack.enter_context(tempfile.TemporaryDirectory(prefix="beaker-benchmark-"))
        return stack.enter_context(servers.redis(Path(root))).url
    if name == "datastore":
        return stack.enter_context(emulator.start("datastore")).host
    path = shutil.which(name)
    if path is None:
        raise LookupError(f"apt-get install {name}")
    return path
