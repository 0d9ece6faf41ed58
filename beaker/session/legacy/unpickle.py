"""Old pickles read without pickle: a small machine that builds plain values and can do nothing else.

:mod:`pickle` with a guarded ``find_class`` still calls whatever the guard lets through with arguments of the
pickle's choosing, and its C code reserves memory for a memo index before it looks at the rest. Here every
opcode is a method of our own, every constructor a function of our own, and what is not in the tables ends the
reading. Protocols 0 to 5, from Python 2 and 3.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from beaker.serialization.hashes import MOST_ALIKE, Hashes, crowded
from beaker.session.legacy.plain import (
    CONSTRUCTORS,
    MAX_DIGITS,
    STATEFUL,
    Constructor,
    LegacyDataError,
    Old,
    Plain,
    Stateful,
)
from beaker.session.legacy.source import Source

__all__ = ["MAX_BYTES", "loads"]

MAX_BYTES: Final = 65_536
"""Longest pickle that is read."""
_MAX_INT_BYTES: Final = 1_785
"""Bytes of an integer of 4,300 digits, Python's own limit for turning text into integers."""

_REPR: Final = re.compile(rb"(?:[ -\[\]-~]|\\(?:[\\'\"ntr]|x[0-9a-f]{2}))*")
_MARK: Final = object()
_RECONSTRUCT: Final = object()
_RECONSTRUCTORS: Final = frozenset([("copyreg", "_reconstructor"), ("copy_reg", "_reconstructor")])


def loads(data: bytes, *, limit: int = MAX_BYTES) -> Any:
    """The value in a pickle: None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset,
    datetime's types, Decimal, UUID. ``str`` of Python 2 is text where it is UTF-8, else bytes.

    Raises LegacyDataError for anything else and for whatever goes beyond ``limit`` bytes, 64 levels or
    100,000 values (64 bytes of a text or a number count as one more), without having run anything the
    pickle named.
    """
    if len(data) > limit:
        raise LegacyDataError("size")
    try:
        return _Machine(data).run()
    except LegacyDataError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error, RecursionError, AttributeError) as error:
        # The text of such an error may quote the data; only its kind goes further.
        raise LegacyDataError(type(error).__name__) from None


class _Machine(Source):
    """One reading of one pickle."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.hashes: dict[int, tuple[Any, Hashes]] = {}
        self.plain = Plain()

    def run(self) -> Any:
        # Every turn takes at least a byte, so the size bounds them.
        while True:
            code = self.take(1)
            if code == b".":
                value = self.stack.pop()
                if self.stack or self.at != len(self.data):
                    raise LegacyDataError("rest")
                return self.plain(value)
            step = _STEPS.get(code)
            if step is None:
                raise LegacyDataError("opcode")
            step(self)

    # -- stack ---------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise LegacyDataError("mark")

    def last(self, n: int) -> tuple[Any, ...]:
        if len(self.stack) < n:
            raise LegacyDataError("stack")
        items = tuple(self.stack[len(self.stack) - n :])
        del self.stack[len(self.stack) - n :]
        return items

    def drop(self) -> None:
        self.last(1)

    def drop_mark(self) -> None:
        self.since_mark()

    def top(self, kind: type) -> Any:
        target = self.stack[-1]
        if type(target) is not kind:
            raise LegacyDataError("target")
        return target

    # -- what opcodes do -----------------------------------------------------------------------------

    def proto(self) -> None:
        if self.number("<B") > 5:
            raise LegacyDataError("protocol")

    def frame(self) -> None:
        if self.number("<Q") > len(self.data) - self.at:
            raise LegacyDataError("short")

    def memoize(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def int_line(self) -> None:
        text = self.line()
        if text in (b"00", b"01"):
            self.push(text == b"01")
        else:
            self.push(int(_digits(text)))

    def long_line(self) -> None:
        self.push(int(_digits(self.line().removesuffix(b"L"))))

    def long(self, size: int) -> None:
        if size > _MAX_INT_BYTES:
            raise LegacyDataError("integer")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def float_line(self) -> None:
        text = self.line()
        if len(text) > 64:
            raise LegacyDataError("float")
        self.push(float(text))

    def string_line(self) -> None:
        text = self.line()
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
            raise LegacyDataError("string")
        body = text[1:-1]
        # Python 2 wrote repr(): escapes of single bytes only. Of others Python warns.
        if not _REPR.fullmatch(body):
            raise LegacyDataError("string")
        self.push(Old(body.decode("unicode_escape").encode("latin-1")))

    def unicode_line(self) -> None:
        self.push(self.line().decode("raw_unicode_escape"))

    def text(self, size: int) -> None:
        self.push(self.take(size).decode("utf-8", "surrogatepass"))

    def append(self) -> None:
        (value,) = self.last(1)
        self.top(list).append(value)

    def appends(self) -> None:
        items = self.since_mark()
        self.top(list).extend(items)

    def key(self, value: Any) -> Any:
        # A key needs its last form before it is hashed, and the budget is spent before hashing can take long.
        return self.plain(value)

    def put_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise LegacyDataError("pairs")
        target = self.top(dict)
        keys = [self.key(key) for key in items[::2]]
        self.check_hashes(target, keys)
        target.update(zip(keys, items[1::2], strict=True))

    def make_dict(self) -> None:
        items = self.since_mark()
        self.push({})
        self.put_items(items)

    def add_items(self) -> None:
        items = [self.key(item) for item in self.since_mark()]
        target = self.top(set)
        self.check_hashes(target, items)
        target.update(items)

    def frozen(self) -> None:
        items = [self.key(item) for item in self.since_mark()]
        self.check_hashes(None, items)
        self.push(frozenset(items))

    def check_hashes(self, target: Any, added: list[Any]) -> None:
        """Refuse what would keep a set or dict busy: more than 64 elements or keys with the same hash."""
        size = 0 if target is None else len(target)
        if size + len(added) <= MOST_ALIKE:
            return
        if target is None:
            bad = crowded(added)
        else:
            # Kept with its target, so that no other object gets its id.
            kept = self.hashes.get(id(target)) or (target, Hashes(target))
            self.hashes[id(target)] = kept
            bad = kept[1].crowded_by(added)
        if bad:
            raise LegacyDataError("hashes")

    def global_name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise LegacyDataError("name")
        if (module, name) in _RECONSTRUCTORS:
            self.push(_RECONSTRUCT)
            return
        found = CONSTRUCTORS.get((module, name))
        if found is None:
            raise LegacyDataError("name")
        self.push(_Callable(found))

    def global_lines(self) -> None:
        module, name = self.line().decode(), self.line().decode()
        self.global_name(module, name)

    def global_stack(self) -> None:
        module, name = self.last(2)
        self.global_name(module, name)

    def reduce(self) -> None:
        found, args = self.last(2)
        if found is _RECONSTRUCT and type(args) is tuple and len(args) == 3:
            # How protocols 0 and 1 create an object without calling its class: class, base, the base's state.
            self.push(args[0])
            self.push(())
            self.new_object()
            return
        if type(found) is not _Callable or type(args) is not tuple:
            raise LegacyDataError("call")
        # A class whose state comes later has no way to be called, only to be created.
        if found.make in STATEFUL:
            raise LegacyDataError("call")
        self.push(found.make(self.plain, *args))

    def new_object(self) -> None:
        found, args = self.last(2)
        if type(found) is not _Callable or type(args) is not tuple or found.make not in STATEFUL or args:
            raise LegacyDataError("object")
        self.push(Stateful(found.make))

    def build(self) -> None:
        (state,) = self.last(1)
        target = self.top(Stateful)
        if type(state) is not dict:
            raise LegacyDataError("state")
        target.state = state


class _Callable:
    """A constructor of our own, standing for the one a pickle names."""

    __slots__ = ("make",)

    def __init__(self, make: Constructor) -> None:
        self.make = make


def _digits(text: bytes) -> str:
    if len(text) > MAX_DIGITS:
        raise LegacyDataError("integer")
    return text.decode("ascii")


def _make_tuple(machine: _Machine) -> None:
    machine.push(tuple(machine.since_mark()))


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(value)


def _last_tuple(n: int) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(machine.last(n))


_STEPS: Final[dict[bytes, Callable[[_Machine], None]]] = {
    b"\x80": _Machine.proto,
    b"\x95": _Machine.frame,
    b"(": _push(_MARK),
    b"0": _Machine.drop,
    b"1": _Machine.drop_mark,
    b"2": lambda m: m.push(m.stack[-1]),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"I": _Machine.int_line,
    b"L": _Machine.long_line,
    b"J": lambda m: m.push(struct.unpack("<i", m.take(4))[0]),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.long(m.number("<B")),
    b"\x8b": lambda m: m.long(m.number("<i")),
    b"F": _Machine.float_line,
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"S": _Machine.string_line,
    b"T": lambda m: m.push(Old(m.take(m.number("<i")))),
    b"U": lambda m: m.push(Old(m.take(m.number("<B")))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"V": _Machine.unicode_line,
    b"X": lambda m: m.text(m.number("<I")),
    b"\x8c": lambda m: m.text(m.number("<B")),
    b"\x8d": lambda m: m.text(m.number("<Q")),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"\x8f": lambda m: m.push(set()),
    b")": _push(()),
    b"l": lambda m: m.push(m.since_mark()),
    b"d": _Machine.make_dict,
    b"t": _make_tuple,
    b"\x85": _last_tuple(1),
    b"\x86": _last_tuple(2),
    b"\x87": _last_tuple(3),
    b"\x91": _Machine.frozen,
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"s": lambda m: m.put_items(list(m.last(2))),
    b"u": lambda m: m.put_items(m.since_mark()),
    b"\x90": _Machine.add_items,
    b"p": lambda m: m.memoize(int(_digits(m.line()))),
    b"q": lambda m: m.memoize(m.number("<B")),
    b"r": lambda m: m.memoize(m.number("<I")),
    b"\x94": lambda m: m.memoize(len(m.memo)),
    b"g": lambda m: m.push(m.memo[int(_digits(m.line()))]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"c": _Machine.global_lines,
    b"\x93": _Machine.global_stack,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"b": _Machine.build,
}
