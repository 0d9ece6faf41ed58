"""Names that a module loads when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["beaker.counters", "beaker.session", "beaker.testing"])
def test_names_that_are_loaded_when_used_are_listed(name: str) -> None:
    # Sphinx, help() and completion ask dir(); a process of its own, where nothing was loaded before.
    code = f"import {name} as module; print(*sorted(set(module.__all__) - set(dir(module))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_every_lazy_module_with_a_list_of_names_is_checked() -> None:
    lazy = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (ROOT / "beaker").rglob("*.py")
        if "def __getattr__(name: str)" in (text := path.read_text("utf-8")) and "__all__ = [" in text
    }
    # All of their names but the lazy ones are in the file itself.
    outside = {"beaker.middleware", "beaker.session.cookies"}
    assert lazy - outside == {"beaker.counters", "beaker.session", "beaker.testing"}
