"""Loops in blocks that hold a lock, as Python compiles them."""

from __future__ import annotations

import ast
import dis
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest

import beaker
import gae

PACKAGES = [Path(each.__file__ or "").parent for each in (beaker, gae)]
LOCKS = (
    "lock", "mutex", "guard", "stripe", "gate", "turn", "alone", "retry", "holding", "_writing", "_reading",
    "_changing",
)  # fmt: skip


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def unprotected(code: CodeType) -> Iterator[int]:
    """Lines of jumps back that leave the ``with`` or ``try`` that the steps around them are in."""
    # Python 3.10 has no such table, and keeps loops in their blocks.
    table: list[Any] = getattr(dis, "_parse_exception_table", lambda _: [])(code)
    inside = [any(entry.start <= step.offset < entry.end for entry in table) for step in dis.get_instructions(code)]
    line = code.co_firstlineno
    for number, step in enumerate(dis.get_instructions(code)):
        positions = getattr(step, "positions", None)
        line = getattr(positions, "lineno", None) or line
        if step.opname.startswith("JUMP_BACKWARD") and number and inside[number - 1] and not inside[number]:
            yield line


def held(tree: ast.AST) -> set[int]:
    """The lines of blocks that hold a lock."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and any(word in ast.unparse(node.items[0]).lower() for word in LOCKS)
        for line in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
    }


def faults(text: str, name: str) -> list[str]:
    """Where a loop's jump back leaves a block of ``text`` that holds a lock."""
    lines = held(ast.parse(text))
    return [
        f"{name}:{line}"
        for code in codes(compile(text, name, "exec"))
        # The turns of a generator are handed out within the block that asks for them.
        if code.co_name != "<genexpr>"
        for line in unprotected(code)
        if line in lines
    ]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_loop_leaves_the_block_that_holds_a_lock(package: Path) -> None:
    """A signal that is handled at the end of a turn of a loop finds the lock released.

    Python 3.12 and 3.13 leave a jump back after a condition out of the block's protection: an exception raised there
    skips the ``__exit__``. Such a loop belongs into a function that the block calls.
    """
    found = [place for path in sorted(package.rglob("*.py")) for place in faults(path.read_text("utf-8"), path.name)]
    assert not found


@pytest.mark.skipif(not hasattr(dis, "_parse_exception_table"), reason="Python 3.10 has no such table")
def test_such_a_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above looks for, as it stood in a release of a lock, and as Python 3.12 compiles it."""
    text = """
        def wake(mutex, places):
            with mutex:
                for place in places:
                    if place is not None:
                        place.release()
    """
    if sys.version_info[:2] != (3, 12):
        # The others keep the jump in its block: it is taken out here.
        complete = dis._parse_exception_table  # type: ignore[attr-defined]
        monkeypatch.setattr(dis, "_parse_exception_table", lambda code: [*_cut(code, complete(code))])
    assert faults(textwrap.dedent(text), "planted")


class _Part(NamedTuple):
    start: int
    end: int


def _cut(code: CodeType, table: list[Any]) -> Iterator[_Part]:
    jumps = [step.offset for step in dis.get_instructions(code) if step.opname.startswith("JUMP_BACKWARD")]
    for entry in table:
        bounds = [
            entry.start,
            *(edge for at in jumps for edge in (at, at + 2) if entry.start < at < entry.end),
            entry.end,
        ]
        yield from (_Part(*pair) for pair in zip(bounds[::2], bounds[1::2], strict=True))
