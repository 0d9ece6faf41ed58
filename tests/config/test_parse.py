"""Options out of a mapping that many components share."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest

from beaker.config import options, parse
from beaker.exceptions import ConfigError, ConfigWarning


def test_both_prefixes_are_ours_and_other_keys_are_left_alone() -> None:
    """session., beaker.session. and keyword arguments; a neighbour's keys are not looked at."""
    config = {"session.timeout": "60", "beaker.session.auto": "on", "debug": "?", "sqlalchemy.url": "", "cache.type": 5}
    found = parse.parse_session(config, kwargs={"key": "sid"})
    assert (found.timeout, found.auto, found.key) == (60.0, True, "sid")


def test_the_longer_prefix_wins() -> None:
    """beaker.session.x is the more specific spelling."""
    assert parse.parse_session({"beaker.session.timeout": 1, "session.timeout": 2}).timeout == 1.0


def test_an_unknown_option_warns_with_the_nearest_name() -> None:
    """A misspelt option of Beaker's is reported with the name that was probably meant."""
    with pytest.warns(ConfigWarning, match=r"session\.compres is not an option.*session\.compress"):
        parse.parse_session({"session.compres": True})
    with pytest.warns(ConfigWarning, match=r"cache\.long\.expire.*not in cache\.regions"):
        parse.parse_cache({"cache.regions": "short", "cache.long.expire": 5})


def test_strict_makes_it_an_error() -> None:
    """strict = true refuses what would only warn."""
    with pytest.raises(ConfigError, match="compres"):
        parse.parse_session({"session.compres": 5, "session.strict": "true"})


@pytest.mark.parametrize("name", sorted(options.ACCEPTED))
def test_options_of_older_beakers_are_accepted(name: str) -> None:
    """What Beaker up to 1.14 knows passes in silence, strict too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse.parse_session({f"session.{name}": "x", "session.strict": True})


def test_a_third_partys_options_are_handed_to_it() -> None:
    """For a type that is not ours, unknown names pass unchanged."""
    found = parse.parse_session({"session.type": "ext:other", "session.bucket": "7", "session.url": ""})
    assert dict(found.backend) == {"bucket": "7", "url": ""}
    assert parse.parse_cache({"cache.type": "ext:other", "cache.bucket": "7"})["bucket"] == "7"


@pytest.mark.parametrize("name", ["timeout", "type", "key", "data_dir", "secret", "cookie_expires", "auto"])
def test_an_empty_string_is_an_error(name: str) -> None:
    """An option that is there and empty is a mistake (manual 4.5)."""
    with pytest.raises(ConfigError, match=rf"session\.{name}.*empty string"):
        parse.parse_session({f"session.{name}": ""})


def test_samesite_may_be_empty() -> None:
    """An empty samesite leaves the attribute out."""
    assert parse.parse_session({"session.samesite": ""}).samesite is None
    assert parse.parse_session({"session.samesite": "strict"}).samesite == "Strict"


def test_regions_fall_back_to_the_general_options() -> None:
    """1.3.1: what a region does not say is taken from the cache's options, coerced."""
    found = parse.parse_cache(
        {
            "cache.data_dir": "/tmp/cache/data",
            "cache.lock_dir": "/tmp/cache/lock",
            "cache.regions": "short_term, long_term",
            "cache.short_term.type": "ext:memcached",
            "cache.short_term.url": "127.0.0.1:11211",
            "cache.short_term.expire": "3600",
            "cache.long_term.type": "file",
            "cache.long_term.expire": "86400",
        }
    )
    short, long = found["cache_regions"]["short_term"], found["cache_regions"]["long_term"]
    assert (short["type"], short["url"], short["expire"]) == ("ext:memcached", "127.0.0.1:11211", 3600)
    assert short["lock_dir"] == long["lock_dir"] == "/tmp/cache/lock"
    assert (long["type"], long["expire"], "url" in long) == ("file", 86400, False)


def test_expiretime_is_expire() -> None:
    """The older name means the same."""
    assert parse.coerce_cache({"expiretime": "5"})["expire"] == 5.0


def test_data_serializer_is_serializer() -> None:
    """The older name means the same, and the newer one wins."""
    assert parse.parse_session({"session.data_serializer": "json"}).serializer == "json"
    assert (
        parse.parse_session({"session.data_serializer": "json", "session.serializer": "pickle"}).serializer == "pickle"
    )


def test_secrets_are_not_in_the_repr() -> None:
    """Options print without keys, urls and whatever a backend was given."""
    found = parse.parse_session(
        {"session.secret": "hush-hush-hush-hush", "session.url": "u:password@h", "session.type": "ext:redis"}
    )
    assert "hush" not in repr(found)
    assert "password" not in repr(found)


@pytest.mark.parametrize("owner", [options.SessionOptions, options.CacheOptions, options.BackendOptions])
def test_every_option_says_what_it_is(owner: Any) -> None:
    """Each option has a help text, and its default is one its own coercion accepts."""
    for name, info in options.describe(owner).items():
        if name == "backend":
            continue
        assert info.help, name
        if info.default is not None:
            assert info.coerce(name, info.default) == info.default, name
    assert inspect.getdoc(owner)


def test_config_must_be_a_mapping() -> None:
    """Something else than a dict is refused by type."""
    with pytest.raises(ConfigError, match="a dict of options, got list"):
        parse.parse_session([("session.timeout", 5)])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["expires", "cookie_max_age", "longtimeout"])
def test_names_that_living_programs_give_and_beaker_ignored_only_warn(name: str) -> None:
    """A program that runs with Beaker 1.14 although it ignores one of its options starts here, and is warned."""
    with pytest.warns(ConfigWarning, match=name):
        assert parse.parse_session({"session.type": "memory", f"session.{name}": "300"}).type == "memory"
