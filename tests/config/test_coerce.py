"""Coercion: what an INI file's strings become, and what the error says when they cannot be converted."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from beaker.config import coerce
from beaker.exceptions import ConfigError

GOOD: list[tuple[coerce.Coerce, Any, Any]] = [
    (coerce.as_bool, "Yes", True),
    (coerce.as_bool, " off ", False),
    (coerce.as_bool, 1, True),
    (coerce.as_int, " 42 ", 42),
    (coerce.as_int, 42.0, 42),
    (coerce.as_seconds, "90", 90.0),
    (coerce.as_seconds, "1h30m", 5400.0),
    (coerce.as_seconds, "2d", 172800.0),
    (coerce.as_seconds, dt.timedelta(minutes=2), 120.0),
    (coerce.as_seconds, 0, 0.0),
    (coerce.as_list, "a, b,,c", ["a", "b", "c"]),
    (coerce.as_list, ("a", " b "), ["a", "b"]),
    (coerce.as_list, "a\nb", ["a", "b"]),
    (coerce.as_path, Path("/tmp/x"), "/tmp/x"),
    (coerce.as_path, "/tmp/\udcff", "/tmp/\udcff"),
    (coerce.as_class, dict, dict),
    (coerce.as_mapping, {"echo": True}, {"echo": True}),
    (coerce.as_key, ["a", b"b"], ("a", b"b")),
    (coerce.as_expires, "true", True),
    (coerce.as_expires, "1", True),
    (coerce.as_expires, " 0 ", False),
    (coerce.as_expires, "300", 300.0),
    (coerce.as_expires, 10**12, 1e12),
    (coerce.as_expires, "1s", 1.0),
    (coerce.as_span, "0.5", 0.5),
    (coerce.between(1, 3), "3", 3),
    (coerce.as_expires, dt.timedelta(1), dt.timedelta(1)),
    (coerce.as_fraction, "0.25", 0.25),
    (coerce.optional(coerce.as_int), "None", None),
    (coerce.optional(coerce.as_int), None, None),
    (coerce.one_of("a", "b"), " A ", "a"),
]


@pytest.mark.parametrize(("kind", "given", "meant"), GOOD)
def test_a_value_comes_to_what_it_means(kind: coerce.Coerce, given: Any, meant: Any) -> None:
    """Strings, numbers and objects are all converted to the option's own type."""
    found = kind("cache.x", given)
    assert found == meant
    assert type(found) is type(meant)


BAD: list[tuple[coerce.Coerce, Any]] = [
    (coerce.as_bool, "maybe"),
    (coerce.as_bool, 2),
    (coerce.as_bool, ""),
    (coerce.as_int, True),
    (coerce.as_int, "1.5"),
    (coerce.as_int, 1.5),
    (coerce.as_count, 0),
    (coerce.as_seconds, -1),
    (coerce.as_seconds, "1x"),
    (coerce.as_seconds, "h"),
    (coerce.as_seconds, "1h30"),
    (coerce.as_seconds, "1.2.3s"),
    (coerce.as_seconds, float("nan")),
    (coerce.as_seconds, float("inf")),
    (coerce.as_seconds, True),
    (coerce.as_list, 5),
    (coerce.as_list, ["a", 1]),
    (coerce.as_path, " "),
    (coerce.as_path, "/tmp/a\0b"),
    (coerce.as_path, "/tmp/\ud800"),
    (coerce.as_class, "package.Class"),
    (coerce.as_mapping, "{}"),
    (coerce.as_key, ""),
    (coerce.as_key, []),
    (coerce.as_key, 12345),
    (coerce.as_expires, "soon"),
    (coerce.as_expires, 0),
    (coerce.as_expires, 1),
    (coerce.as_expires, 0.0),
    (coerce.as_expires, -5),
    (coerce.as_expires, "0s"),
    (coerce.as_expires, 0.5),
    (coerce.as_expires, float("nan")),
    (coerce.as_expires, "inf"),
    (coerce.as_expires, 10**400),
    (coerce.as_expires, dt.timedelta(0)),
    (coerce.as_expires, dt.timedelta(-1)),
    (coerce.as_expires, None),
    (coerce.as_span, 0),
    (coerce.as_span, "0"),
    (coerce.as_span, dt.timedelta(0)),
    (coerce.as_span, -1),
    (coerce.as_span, "nan"),
    (coerce.as_span, 1e10),
    (coerce.as_seconds, 1e10),
    (coerce.as_seconds, 10**400),
    (coerce.as_count, 2**63),
    (coerce.as_int, -(2**64)),
    (coerce.as_int, float("nan")),
    (coerce.as_int, "1" * 5000),
    (coerce.between(1, 3), 4),
    (coerce.between(0), -1),
    (coerce.as_fraction, 1),
    (coerce.one_of("a"), "b"),
]


@pytest.mark.parametrize(("kind", "given"), BAD)
def test_the_error_names_the_option_and_what_was_given(kind: coerce.Coerce, given: Any) -> None:
    """ConfigError says which option, what was expected and what came; it is a ValueError too."""
    with pytest.raises(ConfigError) as caught:
        kind("cache.some_option", given)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.option == "cache.some_option"
    assert "cache.some_option" in str(error)
    assert error.expected
    told = type(given).__name__ if kind is coerce.as_key and given != "" else coerce.shown(given)
    assert f"got {told}" in str(error)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "5"), (-1, "-1"), (1.5, "1.5"), (True, "True"), (None, "None"), ("ture", "'ture'"),
        (" ext:redsi ", "'ext:redsi'"),
        ("", "an empty string"), ("  ", "an empty string"), ("correct horse", "str"), ("0123456789abc", "str"),
        ("p@ss", "str"), ("línea", "str"), ("redis://u:p@h", "str"), (b"bytes", "bytes"),
        (10**30, "int"), ([1], "list"),
        ({"a": "b"}, "dict"), (object(), "object"),
    ],
)  # fmt: skip
def test_only_what_is_harmless_is_shown(given: Any, said: str) -> None:
    """Numbers, booleans and short words as they are; of text that may be a secret or data, and of objects, the type."""
    assert coerce.shown(given) == said


@pytest.mark.parametrize("given", [12345678, 5.5, True, ["hunter2", 7], {"a": 1}])
def test_of_a_secret_the_type_is_shown_only(given: Any) -> None:
    """Numbers too: a key may be written as one."""
    with pytest.raises(ConfigError) as caught:
        coerce.as_key("session.secret", given)
    assert f"got {type(given).__name__}" in str(caught.value)


def test_a_key_is_never_in_the_message() -> None:
    """What was given for a key stays out of the error."""
    with pytest.raises(ConfigError) as caught:
        coerce.as_key("session.secret", {"hidden": "value"})
    assert "hidden" not in str(caught.value)


def test_an_empty_choice_is_spelled_out() -> None:
    """What may be left empty is said so that a reader sees it."""
    with pytest.raises(ConfigError) as caught:
        coerce.one_of("lax", "")("session.samesite", "banana")
    assert caught.value.expected == "one of lax, nothing"
