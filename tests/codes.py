"""The codes that the source carries: what docs/errors.md must list, no more and no less."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def codes() -> dict[str, str]:
    """Each code with a place that carries it."""
    found: dict[str, str] = {}
    for folder in ("beaker", "gae"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for code, line in _of(ast.parse(path.read_text("utf-8"))):
                found.setdefault(code, f"{path.relative_to(ROOT)}:{line}")
    return found


def _of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        value: ast.expr | None = None
        if isinstance(node, ast.Call):
            value = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
            # Report.add(severity, code, message, fix)
            if (
                isinstance(node.func, ast.Attribute)
                and node.func.attr == "add"
                and ast.unparse(node.func) == "report.add"
            ):
                value = node.args[1]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
                value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and "." in value.value:
            yield value.value, value.lineno
