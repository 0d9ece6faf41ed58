"""How a mutant takes the place of the code as it is, in this process or at the next import."""

from __future__ import annotations
import __future__

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from benchmarks.mutations.mutants import Mutant, functions_of

__all__ = ["Changed", "Unimportable", "change"]


class Unimportable(Exception):
    """The changed module cannot be imported."""


def change(mutant: Mutant) -> bool:
    """Change the module where it is. ``False`` when only importing it again would. Raises Unimportable."""
    module = sys.modules[mutant.module.removesuffix(".py").replace("/", ".")]
    if not mutant.function:
        return _change_outside(module, mutant)
    code = functions_of(compile(mutant.source, mutant.module, "exec", dont_inherit=True))[mutant.function]
    found = _function(module, mutant.function, code.co_name)
    if found is None or len(found.__code__.co_freevars) != len(code.co_freevars):
        return False
    found.__code__ = code
    return True


def _change_outside(module: ModuleType, mutant: Mutant) -> bool:
    """A constant, with those that follow from it, or the default of a parameter."""
    now = ast.parse(mutant.source)
    was = ast.parse(Path(mutant.module).read_text("utf-8"))
    pairs = list(zip(was.body, now.body, strict=False))
    at = next(i for i, (a, b) in enumerate(pairs) if ast.dump(a) != ast.dump(b))
    if _constant(now.body[at]):
        for statement in now.body[at:]:
            if name := _constant(statement):
                before = vars(module)[name]
                try:
                    exec(compile(ast.Module([statement], []), mutant.module, "exec"), vars(module))
                except Exception as err:
                    raise Unimportable(str(err)) from err
                for other in list(sys.modules.values()):
                    if other.__name__.startswith("beaker") and vars(other).get(name) is before:
                        setattr(other, name, vars(module)[name])
        return True
    before, after = pairs[at]
    path = ""
    if isinstance(before, ast.ClassDef) and isinstance(after, ast.ClassDef):
        path = f"{after.name}."
        before, after = next((a, b) for a, b in zip(before.body, after.body, strict=True) if ast.dump(a) != ast.dump(b))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(before, kinds) or not isinstance(after, kinds):
        return False
    before.args.defaults, before.args.kw_defaults = after.args.defaults, after.args.kw_defaults
    found = _function(module, path + after.name, after.name)
    if ast.dump(before) != ast.dump(after) or found is None:
        return False
    after.decorator_list = []
    names = dict(vars(module))
    exec(compile(ast.Module([after], []), mutant.module, "exec", _ANNOTATIONS), names)
    found.__defaults__, found.__kwdefaults__ = names[after.name].__defaults__, names[after.name].__kwdefaults__
    return True


_ANNOTATIONS = __future__.annotations.compiler_flag


def _constant(statement: ast.stmt) -> str:
    """The name that a statement gives a constant, or nothing."""
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target = statement.target
    return target.id if isinstance(target, ast.Name) and target.id.isupper() else ""


def _function(module: ModuleType, name: str, last: str) -> FunctionType | None:
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    for attribute in ("fget", "__func__"):
        found = getattr(found, attribute, found) if not isinstance(found, FunctionType) else found
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return found if isinstance(found, FunctionType) and found.__name__ == last else None


class Changed(importlib.abc.MetaPathFinder):
    """Imports the module of ``mutant`` from its changed text."""

    def __init__(self, mutant: Mutant) -> None:
        self.loader = _Loader(mutant)

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.loader.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module.removesuffix(".py").replace("/", "."), str(Path(mutant.module).resolve()))
        self.source = mutant.source

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.source, self.path, "exec", dont_inherit=True)
        return code
