"""The house rules that no other tool checks: who may import whom, what an import costs, how long a file may be."""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.floors import (
    ENVIRONMENT_READERS,
    FACES,
    FLOOR_NAMES,
    FLOORS,
    FORMER_PATHS,
    INSIDE,
    OPEN_TO_THE_KIT,
    ORDER,
    ROOT_FILES,
    THIRD_PARTY_AT_IMPORT,
)

ROOT = Path(__file__).resolve().parents[1]

FORBIDDEN = ("getpid", "pkg_resources")
LINE_LIMIT = 400
LINE_REASON = re.compile(r"^# over 320 lines because \S.{9,}", re.MULTILINE)


READS = frozenset({"environ", "environb", "getenv"})


class Import(NamedTuple):
    """One imported dotted name, as written in a module."""

    target: str
    line: int
    at_import: bool
    """Runs when the module is imported, not when a function is called."""


@dataclass(frozen=True, eq=False)
class Source:
    """One parsed file; ``name`` is its dotted module name."""

    name: str
    path: Path
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    """Every node of ``tree``, which many of these tests go through."""

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def sources(*packages: str) -> tuple[Source, ...]:
    return tuple(source for package in packages for source in parsed(package))


@functools.cache
def parsed(package: str) -> tuple[Source, ...]:
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text("utf-8"), str(path))
        found.append(Source(name, path, tree, tuple(ast.walk(tree))))
    return tuple(found)


@functools.cache
def imports(source: Source) -> tuple[Import, ...]:
    """Every import of the file, those that only the type checker sees among them: they are knots all the same."""
    package = source.name if source.path.name == "__init__.py" else source.name.rpartition(".")[0]
    found: list[Import] = []
    pending: list[tuple[ast.AST, bool]] = [(source.tree, True)]
    while pending:
        node, at_import = pending.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append(Import(alias.name, node.lineno, at_import))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                found.append(Import(f"{base}.{alias.name}", node.lineno, at_import))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += [(child, False) for child in node.body] + [(child, at_import) for child in node.orelse]
            continue
        inside = at_import and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        pending += [(child, inside) for child in ast.iter_child_nodes(node)]
    return tuple(found)


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether ``name`` is one of ``packages`` or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def own_module(target: str) -> str:
    """Our module that a dotted name leads to (``beaker.cache.Cache`` to ``beaker.cache``), or ``""``."""
    while target:
        if target in modules():
            return target
        target = target.rpartition(".")[0]
    return ""


@functools.cache
def modules() -> frozenset[str]:
    return frozenset(source.name for source in ours())


def ours() -> tuple[Source, ...]:
    return sources("beaker", "gae")


def folder(name: str) -> str:
    """The row of the table a module belongs to: its own (a file of the root) or its folder's."""
    row = ".".join(name.split(".")[:2]) if name.startswith("beaker.") else name.partition(".")[0]
    return row if row in ORDER else ""


def where(row: str) -> str:
    floor, place = ORDER[row]
    return f"{row} (floor {FLOOR_NAMES[floor]}, place {place + 1})"


def no(findings: list[str], rule: str) -> None:
    if findings:
        pytest.fail("\n  ".join([f"{rule}:", *dict.fromkeys(findings)]), pytrace=False)


def test_every_folder_has_its_place() -> None:
    """The table of floors names every folder and root file of beaker and gae once, and none that is gone."""
    listed = [name for names in FLOORS.values() for name in names]
    present = {".".join(name.split(".")[:2]) if name.startswith("beaker") else "gae" for name in modules()}
    present -= {f"beaker.{name}" for name in FORMER_PATHS}
    findings = [f"{name} is listed twice" for name in sorted({name for name in listed if listed.count(name) > 1})]
    findings += [f"{name} is new: give it a place" for name in sorted(present - set(listed))]
    findings += [f"{name} does not exist: remove it" for name in sorted(set(listed) - present)]
    no(findings, "FLOORS in tests/floors.py and the folders disagree")


def test_the_root_does_not_silt_up() -> None:
    """beaker/ holds the manual's names and the ground, nothing else lies flat in it."""
    flat = {path.stem for path in (ROOT / "beaker").glob("*.py")}
    assert flat == {*ROOT_FILES, *FORMER_PATHS}


def test_former_paths_are_one_line() -> None:
    """A module that only keeps an old import path re-exports, and does nothing else."""
    findings = []
    for name in FORMER_PATHS:
        tree = next(source for source in ours() if source.name == f"beaker.{name}").tree
        extra = [node for node in tree.body if not isinstance(node, (ast.ImportFrom, ast.Expr, ast.Assign))]
        findings += [f"beaker/{name}.py:{node.lineno}: more than a re-export" for node in extra]
    no(findings, "modules at former paths that do something")


def test_imports_point_down() -> None:
    """A folder imports floors below it, or folders listed before it on its own floor, inside functions too."""
    findings = []
    for source in ours():
        for found in imports(source):
            here, there = folder(source.name), folder(own_module(found.target))
            if here and there and ORDER[there] > ORDER[here]:
                findings.append(f"{source.at(found.line)}: {where(here)} imports {where(there)}")
    no(findings, "imports that point up (move what both need down, or load it by its name as caching/registry does)")


def test_imports_point_down_inside_a_large_folder() -> None:
    """In storage/ and session/ a file, or a folder in it, imports those listed before it only."""
    findings = []
    for package, names in INSIDE.items():
        place = {name: index for index, name in enumerate(names)}
        files = {
            name.removeprefix(f"{package}.").partition(".")[0] for name in modules() if name.startswith(f"{package}.")
        }
        findings += [f"{package}: {name} has no place, or is gone" for name in sorted(files ^ set(names))]
        for source in ours():
            if not source.name.startswith(f"{package}."):
                continue
            here = source.name.removeprefix(f"{package}.").partition(".")[0]
            for found in imports(source):
                target = own_module(found.target)
                there = target.removeprefix(f"{package}.").partition(".")[0]
                if target == package:
                    findings.append(f"{source.at(found.line)}: imports the face of its own folder")
                elif target.startswith(f"{package}.") and place.get(there, -1) > place.get(here, len(names)):
                    findings.append(f"{source.at(found.line)}: {here} imports {there}")
    no(findings, "imports that point up inside a folder (INSIDE in tests/floors.py)")


def test_no_import_circle() -> None:
    """No chain of imports leads back to where it began."""
    graph = {
        source.name: {own_module(found.target) for found in imports(source)} - {"", source.name} for source in ours()
    }
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as err:
        no([" <- ".join(err.args[1])], "a circle of imports")


def test_the_library_does_not_know_the_kit() -> None:
    """beaker never imports gae: the arrow goes one way."""
    findings = [
        f"{source.at(found.line)}: imports {found.target}"
        for source in sources("beaker")
        for found in imports(source)
        if within(found.target, ("gae", "samples"))
    ]
    no(findings, "beaker imports its own deployment")


def test_nobody_inside_imports_the_faces() -> None:
    """beaker.util and beaker.testing are for users; no module of beaker or gae leans on them."""
    findings = [
        f"{source.at(found.line)}: imports {found.target}"
        for source in ours()
        for found in imports(source)
        if within(found.target, FACES) and not within(source.name, ("beaker.testing",))
    ]
    no(findings, "imports of a face (import what stands behind it)")


def test_the_kit_and_the_samples_use_public_names() -> None:
    """gae and samples never touch a name of beaker that starts with an underscore."""
    findings = []
    for source in sources("gae", "samples"):
        bound = set()
        for node in source.nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                for alias in node.names:
                    target = f"{module}.{alias.name}" if module else alias.name
                    if within(target, OPEN_TO_THE_KIT) or not within(target, ("beaker",)):
                        continue
                    bound.add(alias.asname or alias.name.split(".")[0])
                    if any(private(part) for part in target.split(".")):
                        findings.append(f"{source.at(node.lineno)}: imports {target}")
        for node in source.nodes:
            if isinstance(node, ast.Attribute) and private(node.attr):
                owner = ast.unparse(node.value)
                if owner.split(".")[0] in bound:
                    findings.append(f"{source.at(node.lineno)}: uses {owner}.{node.attr}")
    no(findings, "private names of beaker in use outside it")


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def test_clients_are_imported_where_they_are_used() -> None:
    """A third-party package is imported inside the function or constructor that needs it, never with the module."""
    allowed = sys.stdlib_module_names | {"beaker", "gae"}
    findings = [
        f"{source.at(found.line)}: imports {found.target}"
        for source in ours()
        if not within(source.name, THIRD_PARTY_AT_IMPORT)
        for found in imports(source)
        if found.at_import and found.target.split(".")[0] not in allowed
    ]
    no(findings, "third-party packages imported with the module")


def test_a_cold_start_loads_the_standard_library_only() -> None:
    """``import beaker.middleware`` brings no third-party module and no module of gae, with every extra installed."""
    program = (
        "import sys; before = set(sys.modules); import beaker.middleware\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names) - {'beaker'}))"
    )
    # -I -S: neither site-packages' .pth files nor the environment may load something first and hide it.
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    bootstrap = f"import sys; sys.path += {paths!r}\n{program}"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", bootstrap], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    no(run.stdout.split(), "import beaker.middleware loads")


def test_a_cold_start_loads_little() -> None:
    """``import beaker.middleware`` brings no store, no cache, and nothing of the standard library that is slow to load
    and only some processes need."""
    program = "import sys; import beaker.middleware; print(*sorted(sys.modules))"
    bootstrap = f"import sys; sys.path.append({str(ROOT)!r})\n{program}"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", bootstrap], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    late = (
        "dataclasses",
        "inspect",
        "difflib",
        "uuid",
        "decimal",
        "pickle",
        "http",
        "beaker.caching",
        "beaker.storage",
        "beaker.telemetry",
        "beaker.counters.stats",
    )
    found = [name for name in run.stdout.split() if any(name == one or name.startswith(f"{one}.") for one in late)]
    no(found, "import beaker.middleware loads")


def mentions(node: ast.AST) -> list[str]:
    """The names that a single node mentions."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        return [module or "", *(alias.name for alias in node.names)]
    return []


def test_no_process_id_and_no_pkg_resources() -> None:
    """Nothing asks for its pid (a fork would keep the value), nothing uses the slow and retired pkg_resources."""
    findings = []
    for source in sources("beaker", "gae", "samples"):
        for node in source.nodes:
            line = getattr(node, "lineno", 0)
            findings += [f"{source.at(line)}: {name}" for name in mentions(node) if name in FORBIDDEN]
    no(findings, "forbidden names (after a fork os.register_at_fork makes things new)")


def test_the_environment_is_read_in_one_place() -> None:
    """os.environ is read by the runtime's detection, the command line and the kit's settings, by nothing else."""
    findings = []
    for source in ours():
        if within(source.name, ENVIRONMENT_READERS) or within(source.name, ("beaker.testing",)):
            continue
        for node in source.nodes:
            if isinstance(node, ast.Attribute) and node.attr in READS and ast.unparse(node) == f"os.{node.attr}":
                findings.append(f"{source.at(node.lineno)}: {ast.unparse(node)}")
            elif isinstance(node, ast.ImportFrom) and node.module == "os":
                names = {alias.name for alias in node.names} & READS
                findings += [f"{source.at(node.lineno)}: from os import {name}" for name in sorted(names)]
    no(findings, f"the environment is read outside {', '.join(ENVIRONMENT_READERS)} (take a Runtime or a mapping)")


def test_sleeping_is_looked_up_when_it_happens() -> None:
    """time.sleep is called, never kept: gevent replaces it after the import, and a kept one stops every greenlet."""
    findings = []
    for source in ours():
        called = {id(node.func) for node in source.nodes if isinstance(node, ast.Call)}
        for node in source.nodes:
            if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
                findings.append(f"{source.at(node.lineno)}: from time import sleep")
            elif isinstance(node, ast.Attribute) and node.attr == "sleep" and id(node) not in called:
                findings += [f"{source.at(node.lineno)}: time.sleep is kept"] * (ast.unparse(node) == "time.sleep")
    no(findings, "time.sleep is kept at import (the default for an injected one is beaker.clock.sleep)")


def test_files_are_short() -> None:
    """A file has at most 400 lines (320 are a reason to look), or says why within its first 20."""
    findings = []
    for folder in ("beaker", "gae", "samples", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = path.read_text("utf-8").splitlines()
            if len(lines) > LINE_LIMIT and not LINE_REASON.search("\n".join(lines[:20])):
                findings.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
    no(findings, f"files above {LINE_LIMIT} lines (split them, or write '# over 320 lines because ...' near the top)")


def test_this_checkout_is_what_is_tested() -> None:
    """The suite runs on the packages of this tree, not on an installed copy of another."""
    import beaker
    import gae

    for package in (beaker, gae):
        assert package.__file__ is not None
        assert os.path.samefile(Path(package.__file__).parents[1], ROOT)
