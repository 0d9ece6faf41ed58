"""``python -m beaker``: what it prints, what it removes, what it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beaker.__main__ import main
from beaker.cache import Cache
from beaker.storage.files.sweep import RECORD
from beaker.testing import FakeClock

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start in the checkout leaves its data there, which commands would find."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    return main(arguments, out=out), out.getvalue()


def expired_and_live(directory: Path) -> None:
    clock = FakeClock(1_000_000_000.0)
    old = Cache("pages", type="file", data_dir=str(directory), expire=60, clock=clock)
    for number in range(30):
        old.put(f"old-{number}", number)
    Cache("pages", type="file", data_dir=str(directory)).put("live", 1)


def files(directory: Path) -> int:
    return sum(1 for path in directory.rglob(f"*{RECORD}") if ".locks" not in str(path))


def test_purge_removes_what_expired_and_nothing_else(tmp_path: Path) -> None:
    """Expired records go, a live one stays, and the count is printed."""
    expired_and_live(tmp_path)
    assert files(tmp_path) == 31
    status, told = run("purge", "--type", "file", "--option", f"data_dir={tmp_path}")
    assert (status, told) == (0, "file: 30 expired records removed\n")
    assert Cache("pages", type="file", data_dir=str(tmp_path)).get("live") == 1


def test_purge_is_bounded_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    """--limit stops it, the printed cursor continues it, until nothing is left."""
    expired_and_live(tmp_path)
    arguments = ["purge", "--type", "file", "--option", f"data_dir={tmp_path}", "--limit", "8"]
    removed, cursor = 0, ""
    for _ in range(10):
        status, told = run(*arguments, *(["--cursor", cursor] if cursor else []))
        removed += int(told.split()[1])
        _, found, rest = told.partition("cursor: ")
        assert status == (3 if found else 0)
        if not found:
            break
        cursor = rest.strip()
    assert removed == 30


def test_purge_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --type the BEAKER_ variables say which stores."""
    expired_and_live(tmp_path)
    monkeypatch.setenv("BEAKER_CACHE_TYPE", "file")
    monkeypatch.setenv("BEAKER_CACHE_DATA_DIR", str(tmp_path))
    assert run("purge")[1] == "file: 30 expired records removed\n"


def test_purge_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A foreign cursor, a type that does not exist: status 2 and a sentence, no traceback."""
    for arguments in (
        ("--type", "file", "--option", f"data_dir={tmp_path}", "--cursor", "zzz"),
        ("--type", "nosuch"),
        ("--type", "cookie"),
        ("--limit", "0"),
        ("--limit", "-1"),
        ("--deadline", "0"),
        ("--deadline", "soon"),
    ):
        (tmp_path / "container_file").mkdir(exist_ok=True)
        assert run("purge", *arguments)[0] == 2, arguments
        said = capsys.readouterr().err
        assert re.match(r"(python -m )?beaker purge: ", said)
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--type", "file", "--option", "datadir=data"), "did you mean data_dir?"),
        (("--type", "file", "--option", "url=data"), "url is not an option of the type file"),
        (("--type", "file", "--option", "sa.echo=1"), "sa.echo is not an option"),
        (("--type", "file", "--option", "type=dbm"), "type is not an option"),
        (("--type", "file", "--option", "data_dir"), "NAME=VALUE"),
        (("--type", "file", "--option", "data_dir=data", "--option", "data_dir=x"), "each name once"),
        (("--type", "file"), "--option data_dir=DIRECTORY"),
        (("--type", "file", "--option", "data_dir=dat"), "container_file does not exist"),
        (("--type", "dbm", "--option", "dbm_dir=dat"), "dat does not exist"),
        (("--type", "ext:database", "--option", "url=sqlite:///typo.db"), "database or table does not exist"),
        (("--type", "ext:database", "--option", "url=sqlite:///real.db"), "database or table does not exist"),
        (("--type", "google", "--option", "data_dir=data"), "data_dir is not an option of the type google"),
        (("--option", "data_dir=data"), "--type"),
    ],
)
def test_a_typo_purges_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """An option that the store does not use, or a place that is not there: status 2, and every file stays as it was."""
    monkeypatch.chdir(tmp_path)
    expired_and_live(tmp_path / "data")
    sqlite3.connect(tmp_path / "real.db").close()
    before = sorted(path for path in tmp_path.rglob("*"))
    assert run("purge", *arguments) == (2, "")
    assert message in capsys.readouterr().err
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "there is nothing to purge"),
        ({"BEAKER_CACHE_DATADIR": "data"}, "did you mean BEAKER_CACHE_DATA_DIR?"),
        ({"BEAKER_CACHE_DATA_DIR": "dat"}, "dat/container_file does not exist"),
        ({"BEAKER_DATA_DIR": "dat"}, "dat/cache/container_file does not exist"),
        ({"BEAKER_SESSION_TIMOUT": "5"}, "did you mean BEAKER_SESSION_TIMEOUT?"),
        ({"BEAKER_CACHE_TYPE": "ext:databse"}, "ext:databse"),
    ],
)
def test_a_variable_that_is_wrong_purges_nothing(
    variables: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Misspelt variables and directories that are not there: status 2 before anything is touched."""
    monkeypatch.chdir(tmp_path)
    expired_and_live(tmp_path / "elsewhere")
    before = sorted(path for path in tmp_path.rglob("*"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("purge") == (2, "")
    assert message in capsys.readouterr().err
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_purge_finds_what_a_laptop_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables it is the directory the deployment kit uses; a store that holds nothing yet is skipped."""
    monkeypatch.chdir(tmp_path)
    expired_and_live(tmp_path / "data" / "cache")
    assert run("purge") == (0, "file: 30 expired records removed\n")


def test_an_address_without_http_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """--check-clock takes an http or https address only."""
    with pytest.raises(SystemExit) as stopped:
        run("explain", "--check-clock", "example.com")
    assert stopped.value.code == 2
    assert "http or https" in capsys.readouterr().err


def test_new_keys_are_good_and_differ(tmp_path: Path) -> None:
    """keys new prints a key that keys check accepts, without printing it again."""
    first, second = run("keys", "new")[1].strip(), run("keys", "new")[1].strip()
    assert first != second
    path = tmp_path / "keys"
    path.write_text(f"{first}\n{second}\n")
    status, told = run("keys", "check", str(path))
    assert status == 0
    assert "1: good, 52 bytes of keys new" in told
    assert "2: good" in told
    assert first not in told
    assert second not in told


def test_weak_keys_are_named_and_not_shown(tmp_path: Path) -> None:
    """keys check refuses short and repetitive keys by line, and a missing file by name."""
    path = tmp_path / "keys"
    path.write_text("tooshort\n" + "ab" * 20 + "\n")
    status, told = run("keys", "check", str(path))
    assert status == 1
    assert told.count("\n") == 2
    assert "tooshort" not in told
    assert run("keys", "check", str(tmp_path / "none"))[0] == 2


def test_it_runs_as_a_module() -> None:
    """python -m beaker keys new works in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "beaker", "keys", "new"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert len(done.stdout.strip()) == 52


@pytest.mark.parametrize(
    "module", [("beaker", "explain", "--json"), ("gae.doctor", "--json"), ("beaker", "keys", "new")], ids=" ".join
)
def test_a_reader_that_goes_away_is_no_error(module: tuple[str, ...], tmp_path: Path) -> None:
    """As in `... | head -c 100`: the command ends without a word, with the status of a program that SIGPIPE ended."""
    command = (sys.executable, "-W", "error", "-m", *module)
    reader, writer = os.pipe()
    # It has gone before anything is written: what a buffer holds fails no less than what is longer than one.
    os.close(reader)
    with open(writer, "wb") as out:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environ, stdout=out, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_purge_as_json_says_how_much_is_left(tmp_path: Path) -> None:
    """An object with what was removed, the estimate of a store that can count, the cursor; status 3 before the end."""
    clock = FakeClock(1_000_000_000.0)
    options: dict[str, Any] = {"type": "ext:database", "url": f"sqlite:///{tmp_path}/cache.db"}
    cache = Cache("pages", **options, expire=60, clock=clock)
    cache.put_many({f"old-{number}": number for number in range(30)})
    arguments = ("purge", "--type", "ext:database", "--option", f"url={options['url']}", "--json")
    status, told = run(*arguments, "--limit", "12")
    first = json.loads(told)
    assert (status, first["total"], first["estimate"]) == (3, 12, 12)
    status, told = run(*arguments, "--cursor", first["cursor"])
    rest = json.loads(told)
    assert (status, rest["removed"], rest["estimate"]) == (0, {"ext:database": 18}, 18)
    assert (rest["cursor"], rest["error"]) == (None, None)
    cache.namespace.store.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [("purge", "--jsno"), ("doctor", "--hlep"), ("explain", "--al"), ("purgee",), ()])
def test_a_misspelt_word_is_a_wrong_call(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, by every command; an abbreviation is no option either."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_doctor_reads_an_app_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The deployment kit's command is found by its entry point; the file's variables count, not the shell's."""
    file = tmp_path / "app.yaml"
    file.write_text(
        "runtime: python312\nenv_variables:\n  BEAKER_SESSION_TYPE: 'ext:redis'  # a comment\n\n"
        "  BEAKER_SESSION_TIMEOUT: 1h\nhandlers:\n- url: /.*\n  script: auto\n"
    )
    status, told = run("doctor", "--app-yaml", str(file), "--json")
    report = json.loads(told)
    rows = {row["option"]: row["value"] for row in report["options"] if row["scope"] == "session"}
    assert (rows["type"], rows["timeout"]) == ("ext:redis", "3600 s")
    assert report["detected"][0]["value"] == "appengine"
    assert status == 1
    with pytest.raises(SystemExit) as caught:
        run("doctor", "--app-yaml", str(tmp_path / "none.yaml"))
    assert caught.value.code == 2
    assert "none.yaml" in capsys.readouterr().err


def in_a_terminal(*command: str, status: int = 0, errors: bool = False, **variables: str) -> str:
    """What ``command`` writes to a terminal of 72 columns, with ``errors`` to stderr too; it exits with ``status``."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
    environ = {**os.environ, "TERM": "xterm", **variables}
    # It would say more than the terminal does; a runner of tests sets it.
    environ.pop("COLUMNS", None)
    stderr = theirs if errors else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=theirs, stderr=stderr, env=environ, close_fds=True)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # Linux's word for the end
        while piece := os.read(ours, 65536):
            told += piece
    os.close(ours)
    assert process.wait(60) == status
    return told.decode()


def test_colours_are_for_terminals(tmp_path: Path) -> None:
    """The console script colours on a terminal, wraps at its width, and does neither with NO_COLOR or in a pipe."""
    script = str(Path(sys.executable).with_name("beaker"))
    told = in_a_terminal(script, "explain", BEAKER_SESSION_TYPE="memory")
    assert "\x1b[1mDetected\x1b[0m" in told
    assert "\x1b[" not in in_a_terminal(script, "explain", BEAKER_SESSION_TYPE="memory", NO_COLOR="1")
    piped = subprocess.run([script, "explain"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "\x1b[" not in piped
    assert "Detected" in piped
    long = [line for line in re.sub(r"\x1b\[\d+m", "", told).splitlines() if len(line) > 72 and "/" not in line]
    assert long == []
