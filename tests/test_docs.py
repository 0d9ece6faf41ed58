"""What README.md and docs/ say holds: their Python runs, and options, commands, names and links in them exist."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import beaker.__main__
import beaker.cache
from beaker.caching.open_caches import OpenCaches
from beaker.caching.regions import regions as shared_regions
from beaker.config.environment import read
from beaker.config.options import ACCEPTED, BackendOptions, CacheOptions, SessionOptions, describe
from beaker.config.parse import parse_cache, parse_session
from beaker.session.base import BaseSession

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Their examples are for Datastore; they run on its emulator.
ON_DATASTORE = {"start-appengine.md", "serverless.md"}
# Its examples are a package with tests, which pytest runs.
PACKAGE = "extending.md"
NOT_RUN = "<!-- not run: "

_FENCE = re.compile(r"(?m)^(?P<mark><!-- not run: .+ -->\n)?^```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)^```$", re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, text, first line, and whether the page says why it cannot run."""

    kind: str
    text: str
    line: int
    not_run: bool


def blocks(page: Path, *kinds: str) -> list[Block]:
    text = page.read_text("utf-8")
    found = [
        Block(fence["kind"], fence["text"], text.count("\n", 0, fence.start("text")) + 1, bool(fence["mark"]))
        for fence in _FENCE.finditer(text)
    ]
    return [block for block in found if block.kind in kinds]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))


def compiled(page: Path, block: Block) -> Any:
    # Lines are counted as in the page, so that a traceback leads to it.
    return compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)


def run(page: Path) -> None:
    """Execute the page's Python from top to bottom, as one module; a block that begins `# name.py` is a file instead.

    Such a file must be imported by a later block.
    """
    module = types.ModuleType(f"docs_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module
    ran, files = 0, []
    for block in blocks(page, "python"):
        code = compiled(page, block)
        if write(block):
            files.append(block)
        elif not block.not_run:
            exec(code, module.__dict__)
            ran += 1
    for name in [written(block) for block in files]:
        assert Path(sys.modules[name].__file__ or "").resolve() == Path(f"{name}.py").resolve(), f"{name}.py never ran"
    assert ran or not blocks(page, "python"), "none of the page's examples runs"


def written(block: Block) -> str:
    """The name of the module a block is, when its first line says so, else nothing."""
    named = re.match(r"# (\w+)\.py\n", block.text)
    return named[1] if named else ""


def write(block: Block) -> bool:
    name = written(block)
    if name:
        # A test of functions-framework leaves a module of this name behind.
        sys.modules.pop(name, None)
        Path(f"{name}.py").write_text(block.text)
    return bool(name)


@pytest.fixture(autouse=True)
def _reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each page is read in an empty directory, with a key as its first step creates one, and no region configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "secret.key").write_text("fN4oXyQ2vT7bWk9sLd1mZr6cHg3pJe8uAiB5tVqExKo\n")
    (tmp_path / "secret.key").chmod(0o600)
    regions = dict(beaker.cache.cache_regions)
    beaker.cache.cache_regions.clear()
    # A page's invalidation reaches the stores of its own process only, not of the tests before.
    monkeypatch.setattr(beaker.cache, "cache_managers", OpenCaches())
    monkeypatch.setattr(shared_regions, "following", weakref.WeakSet())
    yield
    beaker.cache.cache_regions.clear()
    beaker.cache.cache_regions.update(regions)
    for name, module in list(sys.modules.items()):
        if name.startswith("docs_") or Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


# Pyramid's WebOb imports what Python 3.11 and 3.12 say is to go.
@pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in {*ON_DATASTORE, PACKAGE}], ids=lambda page: page.name
)
def test_examples_run(page: Path) -> None:
    """The Python of a page compiles and, but for blocks that say why not, runs in the order it is written."""
    run(page)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in ON_DATASTORE], ids=lambda page: page.name)
def test_examples_run_on_datastore(page: Path, datastore_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for pages about Datastore, on its emulator."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_emulator.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", f"docs-{page.stem}-{os.getpid()}")
    run(page)


def test_the_backend_of_the_extending_page_passes_its_contracts(tmp_path: Path) -> None:
    """The files of docs/extending.md, written as they stand: its tests, the contract suites among them, pass."""
    page = ROOT / "docs" / PACKAGE
    for block in blocks(page, "python"):
        compiled(page, block)
        write(block)
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    assert files == ["shelf_manager.py", "shelf_store.py", "test_shelf.py"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_shelf.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 60, done.stdout
    assert "skipped" not in done.stdout


def test_few_examples_cannot_run() -> None:
    """A block is left out for a reason that the page gives, and few are."""
    marks = [page.read_text("utf-8").count(NOT_RUN) for page in PAGES]
    assert sum(marks) == sum(block.not_run for page in PAGES for block in blocks(page, "python", "ini"))
    assert sum(marks) <= 3


# The option of the backend that docs/extending.md builds.
FOREIGN = "shelf_path"
OPTIONS = {
    "session": {*describe(SessionOptions), *describe(BackendOptions), *ACCEPTED, FOREIGN},
    "cache": {*describe(CacheOptions), *describe(BackendOptions), *ACCEPTED, FOREIGN},
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_variables_exist(page: Path) -> None:
    """Each `session.NAME`, `cache.NAME`, quoted option and BEAKER_ variable of a page is one that is known."""
    text = page.read_text("utf-8")
    for scope, name in re.findall(r"[`\"'](?:beaker\.)?(session|cache)\.([a-z_.]+)[`\"' =]", text):
        # A region's option has the region's name before it; a session's attribute is written like an option.
        last = name.rpartition(".")[2]
        known = last in OPTIONS[scope] or (scope == "session" and hasattr(BaseSession, name))
        known = known or (scope == "cache" and hasattr(beaker.cache, name))
        assert known, f"{scope}.{name}"
    for variable in set(re.findall(r"\bBEAKER_[A-Z_]+[A-Z]\b(?!_)", text)):
        # The first two stand for names; the third is for test suites.
        if not variable.endswith(("_OPTION", "_NAME", "BEAKER_STRESS")):
            assert not read({variable: "1"}).unknown, variable


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_ini_files_can_be_used(page: Path) -> None:
    """The options of an INI example are accepted by sessions and caches, without a warning."""
    for block in blocks(page, "ini"):
        parser = configparser.ConfigParser({"here": str(Path.cwd())})
        parser.read_string(block.text)
        for section in parser.sections():
            options = dict(parser.items(section))
            parse_session(options)
            parse_cache(options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist(page: Path) -> None:
    """Each dotted name in `beaker` or `gae` that a page mentions leads to a module or to something in one."""
    for name in set(re.findall(r"`((?:beaker|gae)(?:\.\w+)+)(?:\([^`]*\))?`", page.read_text("utf-8"))):
        environ_key_or_option = re.match(r"beaker\.(session|cache)(?:\.(\w+))?$", name)
        if environ_key_or_option and (environ_key_or_option[2] or "type") in OPTIONS[environ_key_or_option[1]]:
            continue
        if re.search(r"\.[A-Z_]+(\.|$)", name):
            # NAME, REGION and OPTION stand for names.
            continue
        assert resolved(name), name


def resolved(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m beaker ...` with its arguments, modules run by -m, and scripts that a page names are there."""
    text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
    for command in re.findall(r"python3? -m beaker( [^\n`>|#]+)", text):
        parser = beaker.__main__._parser()
        try:
            parser.parse_args(shlex.split(command))
        except SystemExit:
            pytest.fail(f"python -m beaker{command}: {capsys.readouterr().err}")
    for module in set(re.findall(r"python3? -m ([\w.]+)", text)):
        assert module == "beaker" or importlib.util.find_spec(module), module
    for script in set(re.findall(r"(?<![\w/.])(scripts/\w+)\b(?!\.)", text)):
        assert os.access(ROOT / script, os.X_OK), script


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as GitHub and MyST build them."""
    titles = re.findall(r"(?m)^#+ (.+)$", prose(page))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """The file of each relative link is there, and so is the heading after its #."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name.startswith("start-")], ids=lambda page: page.name)
def test_a_page_that_deploys_keeps_the_laptops_secret_back(page: Path) -> None:
    """Where the folder that served on a laptop is uploaded, the page says to leave data/ out."""
    text = page.read_text("utf-8")
    uploads = re.search(r"gcloud (app deploy|(run|functions) deploy [^`]*--source)", text)
    assert not uploads or (".gcloudignore" in text and "data/" in text)


def test_every_page_is_in_the_index() -> None:
    """Each page of docs/ is in a table of contents of index.md, and nothing else is."""
    listed = [line.strip() for block in toctrees() for line in block.splitlines() if line and line[0] != ":"]
    assert sorted(listed) == sorted(page.stem for page in PAGES if page.parent.name == "docs" and page.stem != "index")


def toctrees() -> list[str]:
    return re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```$", (ROOT / "docs" / "index.md").read_text("utf-8"))
