"""Physical names that never collide, and names for functions."""

from __future__ import annotations

import functools
import itertools
import operator

import pytest

from beaker import keys
from beaker.testing.hooks import ODD_NAMES


class Base:
    def method(self) -> None:
        """Something to bind."""

    @classmethod
    def build(cls) -> None:
        """Something bound to a class."""

    @staticmethod
    def plain() -> None:
        """Something bound to nothing."""


class Derived(Base):
    pass


def function() -> None:
    """Something with a name."""


def test_function_names() -> None:
    """The name of what is beneath decorators, partials and methods."""

    @functools.wraps(function)
    def wrapped() -> None:
        """In disguise."""

    name = f"{__name__}:"
    assert keys.func_namespace(function) == name + "function"
    assert keys.func_namespace(wrapped) == name + "function"
    assert keys.func_namespace(functools.partial(function)) == name + "function"
    assert keys.func_namespace(functools.partial(wrapped)) == name + "function"
    for method in (Base.method, Base().method, Derived().method):
        assert keys.func_namespace(method) == name + "Base.method"
    assert keys.func_namespace(Derived.build) == name + "Base.build"
    assert keys.func_namespace(Base.__dict__["build"]) == name + "Base.build"
    assert keys.func_namespace(Base.__dict__["plain"]) == name + "Base.plain"
    assert keys.func_namespace(operator.itemgetter(1)) == "operator:itemgetter"
    assert keys.func_namespace(len) == "builtins:len"


NAMES = [*ODD_NAMES, "a_b", "c", "b_c", "a:b", "1", "1:a", "k:1:a", "h:"]


def test_mangled_names() -> None:
    """Any pair has a name of its own, in the alphabet and within the limit."""
    pairs = list(itertools.product(NAMES, NAMES))
    for limit in (66, 200):
        names = [keys.mangle(namespace, key, limit) for namespace, key in pairs]
        assert len(set(names)) == len(pairs)
        for name in names:
            assert 0 < len(name) <= limit
            assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-")
    assert keys.mangle("users", "42") == "k:5:users:42"
    with pytest.raises(ValueError, match="66"):
        keys.mangle("n", "k", 65)


def test_digests() -> None:
    """64 hex digits, a different one for each pair and each namespace."""
    pairs = list(itertools.product(NAMES, NAMES))
    made = [keys.digest(namespace, key) for namespace, key in pairs] + [keys.namespace_digest(name) for name in NAMES]
    assert len(set(made)) == len(made)
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in made)
