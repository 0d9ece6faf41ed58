"""The changes: cosmic-ray's operators, and four more that leave out what a line does."""

from __future__ import annotations

import ast
import marshal
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

__all__ = ["Mutant", "functions_of", "mutants_of"]

# Of each comparison its opposite and its neighbour, of each arithmetic operator its inverse: the others repeat them.
_NAMED = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Invert",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    "ZeroIterationForLoop",
    *(f"ReplaceComparisonOperator_{was}" for was in (
        "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is",
        "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt",
    )),
    *(f"ReplaceBinaryOperator_{was}" for was in (
        "Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul",
        "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitAnd", "LShift_RShift", "RShift_LShift",
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: ``was`` and ``now`` are the changed lines, ``first`` to ``last`` the statement's lines.

    ``function`` is the qualified name of the function it is in, empty where only importing the module again shows it.
    """

    module: str
    operator: str
    line: int
    first: int
    last: int
    was: str
    now: str
    function: str
    source: str

    @property
    def identity(self) -> tuple[str, str, str]:
        return (self.module, self.was, self.now)


class _Remove:
    """A call, a raise, a ``del`` or the setting of an attribute or item is left out."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "simple_stmt" and self._does_something(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    @staticmethod
    def _does_something(node: Any) -> bool:
        if node.type == "expr_stmt":
            target = node.children[0]
            return target.type == "atom_expr" or getattr(node.children[1], "value", "=") not in ("=", ":")
        text = node.get_code().strip()
        return node.type in ("atom_expr", "raise_stmt", "del_stmt", "power") and not text.startswith("log.")

    def mutate(self, node: Any, index: int) -> Any:
        from parso.python.tree import Keyword

        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
        return node


class _ReturnNone:
    """``return`` without its value, unless that is as false as None."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "return_stmt" and node.children[1].get_code().strip() not in ("None", "False"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        from parso.python.tree import Keyword

        node.children[1] = Keyword("None", node.children[1].start_pos, prefix=" ")
        return node


class _SwapIn:
    """``in`` and ``not in``."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "comparison" and self._words(node) in ("in", "not in"):
            yield node.children[1].start_pos, node.children[1].end_pos

    @staticmethod
    def _words(node: Any) -> str:
        return " ".join(node.children[1].get_code().split())

    def mutate(self, node: Any, index: int) -> Any:
        from parso.python.tree import Keyword

        word = "in" if self._words(node) == "not in" else "not in"
        node.children[1] = Keyword(word, node.children[1].start_pos, prefix=" ")
        return node


class _OtherText:
    """Another ``str`` or ``bytes``."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "string" and node.parent.type != "simple_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        from parso.python.tree import String

        value = ast.literal_eval(node.value)
        other = value + (b"~" if isinstance(value, bytes) else "~")
        return String(repr(other), node.start_pos, prefix=node.prefix)


def _operators() -> Iterator[tuple[str, Any]]:
    from cosmic_ray.plugins import get_operator

    for name in _NAMED:
        yield name, get_operator(f"core/{name}")()
    yield from (("Remove", _Remove()), ("ReturnNone", _ReturnNone()))
    yield from (("SwapIn", _SwapIn()), ("OtherText", _OtherText()))


def mutants_of(module: str, source: str) -> Iterator[Mutant]:
    """Every change of ``source``, the text of the file ``module``, but those of words: annotations, messages, names."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    tree = ast.parse(source)
    spared, statements = _spared(tree), _statements(tree)
    original = compile(source, module, "exec", dont_inherit=True)
    seen = {_bare(original)}
    operators = list(_operators())
    before = ""
    # Piece by piece: each mutant takes a new parse.
    for piece in [child.get_code() for child in get_ast(source).children]:
        above, after = before.count("\n"), source[len(before) + len(piece) :]
        nodes = list(ast_nodes(get_ast(piece)))
        for name, operator in operators:
            positions = (position for node in nodes for position in operator.mutation_positions(node))
            for occurrence, ((line, column), _) in enumerate(positions):
                line += above
                if any(begin <= (line, column) < end for begin, end in spared):
                    continue
                changed = before + mutate_code(piece, operator, occurrence) + after
                try:
                    code = compile(changed, module, "exec", dont_inherit=True)
                except SyntaxError:
                    continue
                if (bare := _bare(code)) in seen:
                    continue
                seen.add(bare)
                first, last = next((a, b) for a, b in statements if a <= line <= b)
                was, now = _lines(source, changed)
                yield Mutant(module, name, line, first, last, was, now, _function(original, code), changed)
        before += piece


def _lines(before: str, after: str) -> tuple[str, str]:
    was, now = before.splitlines(), after.splitlines()
    head = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), 0)
    tail = next((i for i, (a, b) in enumerate(zip(was[::-1], now[::-1], strict=False)) if a != b), 0)
    return tuple(" ".join(" ".join(text[head : len(text) - tail]).split()) for text in (was, now))  # type: ignore[return-value]


def _statements(tree: ast.Module) -> list[tuple[int, int]]:
    """The lines of each statement without the statements in it, shortest first."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            body = [inner for field in ("body", "orelse", "finalbody") for inner in getattr(node, field, [])]
            last = node.end_lineno or node.lineno
            first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
            found.append((first, min([last, *(max(node.lineno, inner.lineno - 1) for inner in body)])))
            if body:
                found.append((first, last))
    return sorted(found, key=lambda lines: lines[1] - lines[0])


Span = tuple[tuple[int, int], tuple[int, int]]


def _spared(tree: ast.Module) -> list[Span]:
    """Where words stand: annotations, type aliases, ``__all__`` and ``__slots__``, reprs, messages."""
    found: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node.returns)
            if node.name == "__repr__":
                found.append(node)
            found += [mark for mark in node.decorator_list if getattr(mark, "attr", "") == "overload"]
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            found.append(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            alias = name[0].isupper() and not name.isupper() and isinstance(node.value, (ast.Subscript, ast.Call))
            if name in ("__all__", "__slots__", "log") or alias:
                found.append(node)
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            found.append(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found += _words(node.exc)
        elif isinstance(node, ast.Call) and _called(node) in _SPEAKING:
            found += _words(node)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        for node in found
        if node is not None
    ]


_SPEAKING = frozenset(
    {"warn", "ConfigWarning", "warning", "error", "info", "LockError", "Exposed", "Thread", "cast", "TypeVar"}
)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _words(call: ast.Call) -> list[ast.AST | None]:
    return [*call.args, *(word.value for word in call.keywords if word.arg != "code")]


def _bare(code: CodeType) -> bytes:
    """The code without line numbers."""
    inner = tuple(_bare(const) if isinstance(const, CodeType) else const for const in code.co_consts)
    return _alone(code) + repr(inner).encode()


def _alone(code: CodeType) -> bytes:
    """The code without line numbers and constants."""
    handlers: bytes = getattr(code, "co_exceptiontable", b"")  # from Python 3.11 on
    return marshal.dumps(code.replace(co_consts=(), co_firstlineno=1, co_linetable=b"", co_filename="")) + handlers


def functions_of(code: CodeType, prefix: str = "") -> dict[str, CodeType]:
    """The functions of a module or class body by qualified name; not those inside functions."""
    found: dict[str, CodeType] = {}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_flags & 0x2:  # CO_NEWLOCALS: a function, not a class body
                found[prefix + const.co_name] = const
            else:
                found |= functions_of(const, f"{prefix}{const.co_name}.")
    return found


def _function(before: CodeType, after: CodeType) -> str:
    """The one function that differs; empty when something else does."""
    was, now = functions_of(before), functions_of(after)
    if was.keys() != now.keys() or _without_functions(before) != _without_functions(after):
        return ""
    changed = [name for name in was if _bare(was[name]) != _bare(now[name])]
    return changed[0] if len(changed) == 1 and "<" not in changed[0] else ""


def _without_functions(code: CodeType) -> bytes:
    consts = [
        None if isinstance(const, CodeType) and const.co_flags & 0x2
        else _without_functions(const) if isinstance(const, CodeType)
        else const
        for const in code.co_consts
    ]  # fmt: skip
    return _alone(code) + repr(consts).encode()
