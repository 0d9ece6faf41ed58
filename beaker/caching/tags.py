"""The tags of a decorated function's results: templates of its parameters, or callables of its arguments."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beaker.caching.call_key import CallKey
from beaker.caching.stamps import MAX_TAGS, check_tags
from beaker.exceptions import ConfigError

__all__ = ["Tags", "TagsOf"]

Tags = Iterable[str | Callable[..., Any]] | str | Callable[..., Any]
"""What the option ``tags`` of a decorator may be."""


class TagsOf:
    """The tags of one function's results.

    * ``tags``: texts, in which ``{name}`` stands for the argument of that parameter, defaults included, as in
      :meth:`str.format`; or callables that are given the call's arguments and return a tag or several; or one of them.
      ConfigError for a name that the function has no parameter of, and for more than 100.
    """

    def __init__(self, calls: CallKey, tags: Tags) -> None:
        self._calls = calls
        given: tuple[Any, ...] = (tags,) if isinstance(tags, str) or callable(tags) else tuple(tags)
        if len(given) > MAX_TAGS:
            raise ConfigError(
                f"{calls.function.__qualname__} has too many tags",
                option="tags",
                expected=f"{MAX_TAGS} at most",
                got=str(len(given)),
            )
        for tag in given:
            self._check(tag)
        self._tags = given
        self._constant = check_tags(tuple(tag.format() for tag in given)) if _are_constant(given) else None

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """The tags of the call with these arguments. TypeError when the function cannot be called that way."""
        if self._constant is not None:
            return self._constant
        bound = self._calls.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found: list[Any] = []
        for tag in self._tags:
            if isinstance(tag, str):
                found.append(tag.format_map(bound.arguments))
            else:
                made = tag(*args, **kwargs)
                found += [made] if isinstance(made, str) else made
        return check_tags(found)

    def _check(self, tag: Any) -> None:
        where = self._calls.function.__qualname__
        if callable(tag):
            return
        if not isinstance(tag, str):
            raise ConfigError(
                f"{where} cannot have that tag", option="tags", expected="texts and callables", got=type(tag).__name__
            )
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(tag) if name is not None]
        except ValueError as err:
            raise ConfigError(f"a tag of {where} is no format text: {err}", option="tags") from None
        for field in fields:
            name = field.partition(".")[0].partition("[")[0]
            if not self._calls.accepts(name):
                known = ", ".join(self._calls.signature.parameters) or "no parameter at all"
                raise ConfigError(f"{where} has no parameter {name!r}", option="tags", expected=known)


def _are_constant(tags: tuple[Any, ...]) -> bool:
    return all(
        isinstance(tag, str) and all(name is None for _, name, _, _ in string.Formatter().parse(tag)) for tag in tags
    )
