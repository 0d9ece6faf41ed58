"""What commands show: rich's tables and bars on a terminal, the same facts as plain text in a pipe and without rich."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from beaker.__main__ import main
from beaker.cache import Cache
from beaker.operations import program, purging, removing
from beaker.operations.arguments import Parser
from beaker.operations.choice import terminal_of
from beaker.operations.terminal import Terminal as Shown
from beaker.operations.terminal import printable
from beaker.storage.files import FileStore
from beaker.testing import FakeClock
from tests.test_command_line import in_a_terminal
from tests.test_exit_statuses import STORE, TABLE, Terminal
from tests.test_exit_statuses import folder as folder

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "[bold]x[/bold]\x1b[31m[link=http://a]\u202e"
# Runs the command lines of argv[1] one after the other, without what argv[2] names; says with what they ended.
PROGRAM = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules.update(dict.fromkeys(json.loads(sys.argv[2])))
lines, sys.argv = json.loads(sys.argv[1]), ["beaker"]
from beaker.__main__ import main
from beaker.operations import checks, explain
checks.distributions, explain.EXTRAS = list, {{}}
for words in lines:
    sys.modules.pop("application", None)
    try:
        status = main(words)
    except SystemExit as stopped:
        status = stopped.code
    print("status", status, flush=True)
print("loaded", *({{"rich", "rich_argparse"}} & {{name for name, found in sys.modules.items() if found}}))
"""
WITHOUT = json.dumps(["rich", "rich_argparse"])
# One line of each command and status, with its status; of those that print the same each time.
FIRST: dict[tuple[str, int], tuple[str, ...]] = {}
for _words, _status in TABLE:
    if _words[:2] != ("keys", "new"):
        FIRST.setdefault((_words[0], _status), _words)
LINES = {words: status for (_, status), words in FIRST.items()}


def unstyled(text: str) -> str:
    """``text`` without colours; any other escape stays."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def shown(columns: int, show: Callable[[Shown], object], **environ: str) -> str:
    """What rich writes to a terminal."""
    out = Terminal()
    show(terminal_of(out, {"TERM": "xterm", "COLUMNS": str(columns), **environ}))
    return out.getvalue()


def runs(lines: Sequence[Sequence[str]], without: str, **environ: str) -> str:
    """stdout and stderr of :data:`PROGRAM` in a pipe; ages are left out."""
    command = (sys.executable, "-c", PROGRAM, json.dumps(lines), without)
    done = subprocess.run(
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    return re.sub(r"\d+ \w+ ago", "... ago", done.stdout)


def test_a_pipe_gets_the_same_bytes_without_the_extra(folder: Path) -> None:
    """Plain text, a sentence a line whatever COLUMNS says, no escape; rich is not even imported."""
    # The first purge removes all there is.
    lines = [("purge", *STORE), *[words for words in LINES if LINES[words] != 3], ("--help",), ("help", "purge")]
    main(lines[0], out=io.StringIO())
    with_it, without = runs(lines, "[]"), runs(lines, WITHOUT)
    assert with_it == without
    assert without.endswith("loaded\n")
    assert with_it.count("\nstatus ") == len(lines)
    assert "\x1b" not in with_it
    assert re.search(
        r"^  ERROR config.invalid-option: option .* above 0 and up to 100 years, got 'soon'$", with_it, re.M
    )


@pytest.mark.parametrize("without", ["[]", WITHOUT], ids=["rich", "plain"])
def test_every_status_of_every_command_on_a_real_terminal(without: str, folder: Path) -> None:
    """The same with and without the extra, errors included; wrapped at 72 columns, and plain text without it."""
    told = in_a_terminal(sys.executable, "-c", PROGRAM, json.dumps([*LINES]), without, errors=True)
    assert [int(status) for status in re.findall(r"^status (\d)", told, re.MULTILINE)] == [*LINES.values()]
    assert ("\x1b[1mDetected\x1b[0m" in told) == (without == "[]")
    # Without rich, of the line of purge that is drawn over.
    assert "\x1b" not in told.replace("\x1b[K", "") or without == "[]"
    assert "Traceback" not in told
    assert re.search(r"config.invalid-option: option 'BEAKER_SESSION_TIMEOUT'.{,40}\r\n    \S", unstyled(told))


def test_a_dumb_terminal_gets_no_escape(folder: Path) -> None:
    """TERM=dumb: plain text, and no progress, which would be drawn over."""
    told = in_a_terminal(sys.executable, "-c", PROGRAM, json.dumps([*LINES]), "[]", errors=True, TERM="dumb")
    assert "\x1b" not in told
    assert "about" not in told
    assert told.endswith("loaded\r\n")


@pytest.mark.parametrize(
    "words", [("explain",), ("ls", *STORE), ("get", *STORE, "pages", "live"), ("stats", "counts.json")]
)
def test_a_table_has_the_facts_of_plain_text(
    words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word where there is room; narrower, every word is still there and no line of a table is too long."""
    monkeypatch.setattr("beaker.operations.looking.default_clock", lambda: 2_000_000_000.0)
    FileStore(folder / "data" / "container_file").set("a.module.of.an.application|" + "long" * 9, "k", b"1", ttl=None)
    pipe = io.StringIO()
    main(words, out=pipe)
    for columns in (250, 120, *range(80, 39, -1)):
        monkeypatch.setenv("COLUMNS", str(columns))
        terminal = Terminal()
        main(words, out=terminal)
        lines = unstyled(terminal.getvalue()).replace("\u2500", "").splitlines()
        if columns == 250:
            assert "\n".join(lines).split() == pipe.getvalue().split()
        together = "".join("".join(lines).split())
        for word in pipe.getvalue().split():
            # The head of the name that stands above its row has no place.
            assert word in together or word in ("backend", "namespace", "type"), (columns, word)
        for line in lines:
            assert len(line.rstrip()) <= columns or max(map(len, line.split())) > 24 or line.startswith("    "), line


def test_a_long_name_leaves_room_for_what_it_is() -> None:
    """On a narrow terminal it is divided, instead of the value that it is the name of."""
    told = shown(40, lambda out: out.table([("circuit to ext:redis at 127.0.0.1:12345", "closed", "5 calls")]))
    lines = [line.split("  ") for line in unstyled(told).splitlines()]
    assert "closed" in told
    assert "5 calls" in told
    assert "".join(line[1] for line in lines).replace(" ", "") == "circuittoext:redisat127.0.0.1:12345"
    assert all(sum(map(len, line)) <= 40 for line in lines)


def test_nothing_that_is_shown_steers_or_styles() -> None:
    """Markup, links, controls and directions of writing in a name are text, by every way there is to show it."""

    def show(out: Shown) -> None:
        out.title(HOSTILE)
        out.say(f"{HOSTILE}: {HOSTILE}", "error")
        out.line(HOSTILE)
        out.finding("warning", HOSTILE, HOSTILE, HOSTILE)
        out.table([(HOSTILE, ":smile:", HOSTILE)])
        out.table([("1", HOSTILE)], heads=("number", "name"), right=frozenset({0}))
        with out.progress() as progress:
            progress(HOSTILE, done=1, total=2)

    told = shown(200, show, NO_COLOR="1")
    assert told.count(printable(HOSTILE)) >= 10
    assert ":smile:" in told
    assert "\x1b]8" not in told
    assert "\u202e" not in told
    # What is left are rich's own movements of the cursor around the bar.
    assert set(re.findall(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", told)) <= {"\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A"}
    narrow = shown(40, lambda out: out.table([("1", HOSTILE)], heads=("number of them all", "name")), NO_COLOR="1")
    assert printable(HOSTILE) in narrow
    assert "\x1b" not in narrow


def test_a_namespace_is_shown_as_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``beaker ls`` on a terminal: no colour and no link comes out of a name."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    FileStore(tmp_path).set("[bold]x[/bold]\x1b[31m", "k", b"1", ttl=None)
    out = Terminal()
    assert main(["ls", "--type", "file", "--option", f"file_dir={tmp_path}"], out=out) == 0
    assert "[bold]x[/bold]\\x1b[31m" in out.getvalue()
    assert set(re.findall(r"\x1b\[[\d;]*m", out.getvalue())) == {"\x1b[1m", "\x1b[0m"}


def test_a_terminal_without_utf8_gets_ascii(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No UnicodeEncodeError, in a pipe or on a terminal: what the encoding lacks is an escape."""
    FileStore(folder / "data" / "container_file").set("\u00c4rger", "k", b"1", ttl=None)
    command = (str(Path(sys.executable).with_name("beaker")), "ls", *STORE)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("LC_ALL", "C")
    told = in_a_terminal(*command, errors=True)
    piped = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    for text in (told, piped.decode("ascii")):
        assert "\\xc4rger" in text
        assert text.isascii()


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_progress_of_ls(rich: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of which store was looked at, on a terminal of stderr; none of it beside JSON."""
    if not rich:
        monkeypatch.setitem(sys.modules, "beaker.operations.rich_terminal", None)
    told = []
    for words in (STORE, (*STORE, "--json")):
        stderr = Terminal()
        monkeypatch.setattr(sys, "stderr", stderr)
        assert main(["ls", *words], out=Terminal()) == 0
        told.append(stderr.getvalue())
    assert ("file: 1 namespaces" if rich else "file: 0 records") in told[0]
    assert told[1] == ""


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_a_command_in_a_fix_is_whole(rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is copied; a sentence is wrapped under its finding."""
    if not rich:
        monkeypatch.setitem(sys.modules, "beaker.operations.rich_terminal", None)
    command, sentence = "gcloud do --what=" + "it " * 30, "do this, " * 9 + "or that"
    lines = unstyled(shown(60, lambda out: out.finding("note", "a.code", "b", f"{command}\n{sentence}"))).splitlines()
    assert f"    {command}".rstrip() in [line.rstrip() for line in lines]
    assert all(len(line) <= 60 and line.startswith("    ") for line in lines[2:])
    assert " ".join(line.strip() for line in lines[2:]) == sentence


class TestPurge:
    """What a person sees of it while it runs, and keeps of it when it is stopped."""

    @pytest.fixture
    def arguments(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr(purging, "BATCH", 8)
        options: dict[str, Any] = {"type": "ext:database", "url": f"sqlite:///{tmp_path}/cache.db"}
        cache = Cache("pages", **options, expire=60, clock=FakeClock(1_000_000_000.0))
        cache.put_many({f"old-{number}": number for number in range(30)})
        cache.namespace.store.close()  # type: ignore[attr-defined]
        return ["purge", "--type", "ext:database", "--option", f"url={options['url']}"]

    @pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
    def test_progress_is_on_a_terminal_of_stderr(
        self, rich: bool, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """How many of how many and how long it may take; nothing of it on stdout, in a pipe or beside JSON."""
        if not rich:
            monkeypatch.setitem(sys.modules, "beaker.operations.rich_terminal", None)
        told = []
        for limit, stderr, json_too in (("8", Terminal(), False), ("8", io.StringIO(), False), ("8", Terminal(), True)):
            monkeypatch.setattr(sys, "stderr", stderr)
            out = Terminal()
            assert main([*arguments, "--limit", limit, *["--json"] * json_too], out=out) == 3
            assert "about" not in out.getvalue()
            told.append(stderr.getvalue())
        assert "8 of about 8 expired records removed, 0 s left" in told[0]
        assert told[1:] == ["", ""]

    @pytest.mark.parametrize("asked", [[], ["--json"]], ids=["text", "json"])
    @pytest.mark.parametrize("batches", [0, 1])
    def test_ctrl_c_keeps_the_count(
        self, asked: list[str], batches: int, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        """Status 3, what was removed and the cursor, with which the next run removes the rest and no more."""
        from beaker.storage.sql import SqlStore

        real, calls = SqlStore.purge, iter(range(9))

        def stopped(self: Any, *asked: Any, **more: Any) -> Any:
            if next(calls) == batches:
                raise KeyboardInterrupt
            return real(self, *asked, **more)

        monkeypatch.setattr(SqlStore, "purge", stopped)
        out = io.StringIO()
        assert main([*arguments, *asked], out=out) == 3
        assert "stopped: interrupted" in capsys.readouterr().err
        if asked:
            told = json.loads(out.getvalue())
            assert told["error"].startswith("interrupted")
            removed, cursor = told["total"], told["cursor"]
        else:
            removed = sum(map(int, re.findall(r": (\d+) expired", out.getvalue())))
            cursor = out.getvalue().rpartition("cursor: ")[2].strip()
        assert removed == 8 * batches
        monkeypatch.setattr(SqlStore, "purge", real)
        out = io.StringIO()
        assert main([*arguments, "--cursor", cursor, "--json"], out=out) == 0
        assert json.loads(out.getvalue())["total"] == 30 - removed

    def test_ctrl_c_after_the_last_batch_stops_nothing(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """All is removed: status 0, and no word of a stop."""

        def done(*asked: Any, **more: Any) -> Any:
            purging.purge(*asked, **more)
            raise KeyboardInterrupt

        monkeypatch.setattr(removing, "purge", done)
        out = io.StringIO()
        assert main(arguments, out=out) == 0
        assert out.getvalue() == "ext:database: 30 expired records removed\n"
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [("keys", "new"), ("--help",), ("ls", *STORE, "--json")])
def test_a_full_disk_is_said(words: tuple[str, ...], folder: Path) -> None:
    """Status 3 and a sentence, no traceback."""
    command = (str(Path(sys.executable).with_name("beaker")), *words)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "stopped: the output cannot be written: No space left on device\n")


def test_ctrl_c_ends_a_command_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell counts SIGINT, and with a word instead of a traceback; nothing else is taken for it."""

    def main() -> int:
        raise KeyboardInterrupt

    assert program.status_of(main) == 128 + signal.SIGINT
    assert capsys.readouterr().err == "stopped: interrupted\n"

    def other() -> int:
        raise FileNotFoundError(2, "no such file", "name")

    with pytest.raises(FileNotFoundError):
        program.status_of(other)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "remove expired records"),
        (("help",), 0, "remove expired records"),
        (("help", "purge"), 0, "usage: python -m beaker purge"),
        (("help", "doctor"), 0, "--app-yaml"),
        (("help", "puurge"), 2, "did you mean purge?"),
        (("puurge",), 2, "did you mean purge?"),
        (("keys", "nwe"), 2, "did you mean new?"),
        (("purge", "--limt", "1"), 2, "did you mean --limit?"),
        (("get", "--tpye", "file"), 2, "did you mean --type?"),
        (("--verison", "ls"), 2, "did you mean --version?"),
        (("doctor", "--app-yml", "x"), 2, "did you mean --app-yaml?"),
        (("ls", "--zzzzzz"), 2, "see python -m beaker ls --help"),
        (("get", "pages", "key-77", "key-77"), 2, "too many words, by 1"),
        (("get", "pages", "key-77", "-key-77"), 2, "there is no option -k;"),
    ],
)
def test_a_wrong_call_suggests_the_right_one(
    words: tuple[str, ...],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nearest command or option; words that may be keys are not repeated."""
    monkeypatch.setattr(sys, "argv", ["__main__.py"])
    with pytest.raises(SystemExit) as caught:
        main(words)
    told = capsys.readouterr()
    assert caught.value.code == status
    assert said in (told.out if status == 0 else told.err)
    assert "key-77" not in told.out + told.err


def test_help_on_a_terminal_says_what_it_says_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """In colours; brackets are no markup. A wrong call on a terminal shows no control character that was typed."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "90")
    told = {}
    for kind in (Terminal, io.StringIO):
        stream = kind()
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit):
            main(["help", "purge"])
        told[kind] = stream.getvalue()
    assert "\x1b[36m--limit" in told[Terminal]
    assert unstyled(told[Terminal]).strip() == told[io.StringIO].strip()
    parser, out = Parser("a", description="of [red]b[/red]", epilog="[link=http://c]d[/link]"), Terminal()
    parser.add_argument("e", help="not [bold]f[/bold]")
    parser.print_help(out)
    for text in (parser.description, parser.epilog, "not [bold]f[/bold]"):
        assert str(text) in unstyled(out.getvalue())
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    with pytest.raises(SystemExit):
        main(["ls", "--\x1b[5m"])
    assert "--\\x1b[5m" in stderr.getvalue()


def test_rich_takes_over_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own is Python's traceback, which shows no local variable."""
    hook = sys.excepthook
    shown(80, lambda out: out.say("x"))
    assert sys.excepthook is hook
