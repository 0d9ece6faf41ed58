"""What the samples' READMEs say to type, typed: each command but the install, and the output they show."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.samples.running import ROOT, copied, environment, served
from tests.servers import missing

SERVED = re.compile(r"python main\.py\n\Z|functions-framework |PORT=")
NAMES = sorted({path.parent.name for path in (ROOT / "samples").glob("*/requirements.txt")} - {"appengine"})
READY = "/none?city=none&good=none"
"""An address that every server serves and that changes nothing."""
INSTALL = """\
python3 -m venv .venv && . .venv/bin/activate
pip wheel --quiet --no-deps --wheel-dir wheels ../..
pip install --quiet --requirement requirements.txt
"""


def blocks(text: str, *kinds: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(kinds)})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shape(text: str) -> list[str]:
    """Lines with fractions and times of day normalized: counts must be those shown, durations need not."""
    return [re.sub(r"\d+\.\d+(?:e-\d+)?|\d+e-\d+|\d\d:\d\d:\d\d", "0.0", line) for line in text.splitlines()]


def typed(command: str, wanted: str) -> Callable[[int], Sequence[str]]:
    """The command that serves, on another port than the one the README wants."""
    line = command.rstrip() if wanted in command else f"{command.rstrip()} {wanted}"
    return lambda port: ["bash", "-c", line.replace(wanted, str(port))]


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_can_be_followed(name: str, tmp_path: Path) -> None:
    """Typed in order, the commands work and print what the README shows."""
    if shutil.which("curl") is None:
        missing("curl", "apt-get install curl")
    laptop = (ROOT / "samples" / name / "README.md").read_text("utf-8").partition("\n## On Cloud")[0]
    install, *commands = blocks(laptop, "console")
    assert install == INSTALL
    shown = shape("".join(blocks(laptop, "json", "text")))
    folder = copied(name, tmp_path)
    environ = environment(folder)
    ports: dict[str, str] = {}
    printed: list[str] = []
    with contextlib.ExitStack() as stack:
        for command in commands:
            if SERVED.match(command):
                wanted = (re.findall(r"80\d\d", command) or ["8080"])[0]
                sample = stack.enter_context(served(typed(command, wanted), folder, environ, path=READY))
                ports[wanted] = sample.url.rpartition(":")[2]
                continue
            for wanted, port in ports.items():
                command = command.replace(f":{wanted}/", f":{port}/")
            times = 2 if "twice:" in laptop and "curl" in command else 1
            for _ in range(times):
                done = subprocess.run(["bash", "-ec", command], cwd=folder, env=environ, capture_output=True, text=True)
                assert (done.returncode, done.stderr) == (0, "")
                printed += shape(done.stdout)
    assert printed == shown
