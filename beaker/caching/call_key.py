"""From a call's arguments to the flat list its cache key is computed from.

However a call is written (by position, by keyword, defaults left out) it gives the same list, and both
sides use this one function: the call that stores and the invalidation that removes. The list of an
ordinary call is just its arguments, so it can also be written out by hand (manual 3.4.1).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beaker.exceptions import BeakerWarning, ConfigError, UncacheableArgument, warn
from beaker.keys import cache_key

__all__ = ["CallKey"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallKey:
    """How the calls of one function are named.

    * ``function``: a plain function, or anything with a signature.
    * ``ignore``: parameters that do not matter to the result; ConfigError when the function has none of that name.
    * ``key``: gives the rest of the name itself: a callable given the call's arguments, or a ``str.format`` text
      given them by name (``'user:{id}'``).

    The first parameter of a method is not an argument: its class stands for it, with what ``__cache_key__()``
    returns when the instance has that method. An instance without it that carries state gives one BeakerWarning
    per function, since two such instances share values; UncacheableArgument with ``strict``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | str | None = None,
    ) -> None:
        self.function = function
        try:
            self.signature = inspect.signature(function)
        except ValueError as err:
            raise ConfigError(
                f"{function.__qualname__} does not say what its parameters are",
                option="function",
                hint="cache a function that calls it",
            ) from err
        names = list(self.signature.parameters)
        if not isinstance(ignore, Iterable):
            raise ConfigError(
                "ignore names no parameters", option="ignore", expected="a list of names", got=type(ignore).__name__
            )
        self.ignore = frozenset([ignore] if isinstance(ignore, str) else ignore)
        unknown = sorted(self.ignore - set(names))
        if unknown:
            raise ConfigError(
                f"{function.__qualname__} has no parameter {unknown[0]!r}", option="ignore", expected=", ".join(names)
            )
        if key is not None and not isinstance(key, str) and not callable(key):
            raise ConfigError(
                "key gives no name", option="key", expected="a callable or a format text", got=type(key).__name__
            )
        self.key = key
        self.bound_to: str | None = names[0] if names and names[0] in ("self", "cls") else None
        positional = all(parameter.kind in _POSITIONAL for parameter in self.signature.parameters.values())
        self._count = len(names)
        # A complete positional call needs no binding, which costs more than all the rest of a hit.
        self._plain = positional and not self.ignore and key is None
        self._warned = False
        self.arity = self._count if self._plain and self.bound_to is None else -1
        """How many positional arguments are the flat list as they are; -1: the list is always built."""

    def takes_instance(self) -> None:
        """Treat the function as a method, however its first parameter is called."""
        self.bound_to = next(iter(self.signature.parameters), None)
        self.arity = -1

    def accepts(self, name: str) -> bool:
        """Whether the function has a parameter of that name."""
        return name in self.signature.parameters

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the function can be called with these arguments."""
        try:
            self.signature.bind(*args)
        except TypeError:
            return False
        return True

    def check(self, instance: Any, *, strict: bool) -> None:
        """Warn, or raise, now and not at the first call, when ``instance`` shares values with other instances."""
        self._owner(instance, strict)

    def blamed(
        self, error: UncacheableArgument, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> UncacheableArgument:
        """``error``, naming the function and the parameter whose value has no canonical form."""
        where = self.function.__qualname__
        for name, value in self.signature.bind(*args, **kwargs).arguments.items():
            if name in self.ignore or name == self.bound_to:
                continue
            try:
                cache_key((value,))
            except UncacheableArgument as err:
                _, _, reason = str(err).partition(": ")
                return UncacheableArgument(f"argument {name!r} of {where}: {reason}")
        return error if where in str(error) else UncacheableArgument(f"{where}: {error}")

    def flat(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, strict: bool = False) -> tuple[Any, ...]:
        """The flat list of a call. TypeError when the function cannot be called that way."""
        if self._plain and self.bound_to is not None and not kwargs and len(args) == self._count:
            return (*self._owner(args[0], strict), *args[1:])
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as err:
            raise TypeError(f"{self.function.__qualname__}: {err}") from None
        bound.apply_defaults()
        parts: list[Any] = []
        values = bound.arguments
        if self.bound_to is not None:
            parts += self._owner(values[self.bound_to], strict)
        if self.key is not None:
            return (*parts, self.key.format(**values) if isinstance(self.key, str) else self.key(*args, **kwargs))
        for name, parameter in self.signature.parameters.items():
            if name in self.ignore or name == self.bound_to:
                continue
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                parts += values[name]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                # A dict of its own, always there: f(('a', 1)) is not f(a=1).
                parts.append({key: value for key, value in values[name].items() if key not in self.ignore})
            else:
                parts.append(values[name])
        return tuple(parts)

    def _owner(self, instance: Any, strict: bool) -> list[Any]:
        cls = instance if isinstance(instance, type) else type(instance)
        home = self.function.__qualname__.rpartition(".")[0]
        if home and not home.endswith("<locals>") and all(known.__qualname__ != home for known in cls.__mro__):
            raise TypeError(
                f"{self.function.__qualname__} needs its {self.bound_to} first; go through an instance, and put the "
                "cache decorator above @classmethod"
            )
        name = f"{cls.__module__}:{cls.__qualname__}"
        if instance is cls:
            return [name]
        own = getattr(instance, "__cache_key__", None)
        if own is not None:
            return [name, own()]
        if (strict or not self._warned) and _has_state(instance):
            message = (
                f"{self.function.__qualname__} is cached for all instances of {name} together; give the class a "
                "__cache_key__() that returns what its results depend on"
            )
            if strict:
                raise UncacheableArgument(message, code="cache.shared-by-instances")
            self._warned = True
            warn(BeakerWarning(message, code="cache.shared-by-instances"))
        return [name]


def _has_state(instance: Any) -> bool:
    if getattr(instance, "__dict__", None):
        return True
    slots = (slot for cls in type(instance).__mro__ for slot in _names(cls.__dict__.get("__slots__", ())))
    return any(hasattr(instance, slot) for slot in slots if slot not in ("__dict__", "__weakref__"))


def _names(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots
