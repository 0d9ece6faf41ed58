"""An option that was given is used, or its name is refused: it never ends in a weaker set-up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.config import parse
from beaker.config.deployment import complete
from beaker.config.environment import read
from beaker.exceptions import ConfigError, ConfigWarning
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.runtime import Runtime
from beaker.session.opening import CookieSession, Session
from beaker.session.proxy import SessionObject
from gae.settings import Settings
from tests.config.constructors import (
    CACHE_MAPPINGS,
    KEY,
    MAPPINGS,
    Given,
    app,
    decorated,
    each_cache,
    each_session,
)
from tests.gae.test_functions import client_of


class TestPrefixedKeywords:
    @pytest.mark.parametrize("prefix", ["session.", "beaker.session.", "session_"])
    def test_they_are_session_options(self, tmp_path: Path, prefix: str) -> None:
        """SessionMiddleware(app, **{"session.type": ...}), as most programs call it, has that type and key."""
        given = {"type": "file", "data_dir": str(tmp_path), "secret": KEY, "auto": "true"}
        named: Given = {prefix + name: value for name, value in given.items()}
        made = SessionMiddleware(app, **named)
        assert (made.context.type, made.options.secret, made.options.auto) == ("file", KEY, True)
        assert made.options.backend["data_dir"] == str(tmp_path)

    @pytest.mark.parametrize("prefix", ["session.", "beaker.session."])
    def test_in_every_constructor(self, tmp_path: Path, prefix: str) -> None:
        """Session, CookieSession, SessionObject and with_session take them too."""
        named: Given = {f"{prefix}type": "file", f"{prefix}data_dir": str(tmp_path)}
        assert Session({}, **named)._context.type == "file"
        assert SessionObject({}, **named)._context.type == "file"
        of_cookie: Given = {"validate_key": KEY, f"{prefix}httponly": "off"}
        assert CookieSession({}, **of_cookie)._context.cookie.httponly is False
        answer = client_of(decorated(**{f"{prefix}type": "cookie", f"{prefix}validate_key": KEY})).get("/")
        assert (answer.status_code, answer.text) == (200, "none")

    @pytest.mark.parametrize("prefix", ["cache.", "beaker.cache."])
    @each_cache
    def test_they_are_cache_options(self, tmp_path: Path, prefix: str, build: Callable[..., Any]) -> None:
        """CacheMiddleware, CacheManager, Cache and regions take theirs."""
        with pytest.raises(ConfigError, match="no-such-type"):
            build(**{f"{prefix}type": "no-such-type"})
        build(**{f"{prefix}type": "file", f"{prefix}data_dir": str(tmp_path)})

    def test_regions_among_them(self) -> None:
        """A region's options are found with and without prefix."""
        for given in (
            {"cache.regions": "short", "cache.short.expire": "60"},
            {"cache.regions": "short", "short.expire": "60"},
            {"regions": "short", "cache.short.expire": "60"},
        ):
            assert CacheManager(**given).regions["short"]["expire"] == 60.0

    def test_plain_over_prefixed_over_config(self) -> None:
        """Of several that name one option the plain keyword wins, then the longer prefix, then the mapping."""
        config = {"session.timeout": 1, "session.key": "config", "session.auto": True}
        named: Given = {"session.timeout": 2, "beaker.session.timeout": 3, "timeout": 4, "session.key": "keyword"}
        found = parse.parse_session(config, kwargs=named)
        assert (found.timeout, found.key, found.auto) == (4.0, "keyword", True)
        del named["timeout"]
        assert parse.parse_session(config, kwargs=named).timeout == 3.0

    def test_beside_other_components(self) -> None:
        """Of a whole configuration given as keywords, names under other prefixes are left alone."""
        found = parse.parse_session(kwargs={"session.type": "memory", "sqlalchemy.url": "x", "cache.type": "file"})
        assert (found.type, dict(found.backend)) == ("memory", {})
        assert "sqlalchemy.url" not in parse.parse_cache(kwargs={"cache.type": "memory", "sqlalchemy.url": "x"})

    def test_in_the_kit(self, tmp_path: Path) -> None:
        """compose, Settings and configure_cache take prefixed names in their mappings."""
        environ = {"BEAKER_DATA_DIR": str(tmp_path)}
        found = Settings.from_environ(
            environ,
            session={"session.secret": KEY, "beaker.session.type": "memory"},
            cache={"cache.type": "memory"},
            regions={"r": {"cache.expire": 5}},
        )
        assert (found.session.secret, found.session_type, found.cache_type) == (KEY, "memory", "memory")
        assert found.cache["cache_regions"]["r"]["expire"] == 5.0


WEAKER = [
    "secert", "secret_key", "secrets", "signing_key", "validate_keys", "valid_key", "encryption_key", "encypt_key",
    "typ", "backend", "secured", "cookie_secure", "http_only", "cookie_httponly", "same_site", "data_dri", "datadir",
    "ulr", "timout", "absolute_timout", "cookie_expire", "revokation", "password",
]  # fmt: skip


class TestMisspelt:
    @pytest.mark.parametrize("name", WEAKER)
    @each_session
    def test_an_option_that_protects_is_refused(self, build: Callable[..., Any], name: str) -> None:
        """An unknown name that was meant for protection, life time or place is a ConfigError, prefixed or not."""
        for given in ({name: "x" * 40}, {f"session.{name}": "x" * 40}):
            with pytest.raises(ConfigError, match=rf"session\.{name} is not an option"):
                build(**given)

    @pytest.mark.parametrize("name", WEAKER)
    @pytest.mark.parametrize("build", MAPPINGS.values(), ids=MAPPINGS)
    def test_in_a_mapping(self, build: Callable[[Given], Any], name: str) -> None:
        """The same under our prefixes beside other components, and in a mapping that is ours alone."""
        for given in ({f"session.{name}": "x" * 40, "debug": "1"}, {f"beaker.session.{name}": "x", "session.auto": 1}):
            with pytest.raises(ConfigError, match=name):
                build(given)
        with pytest.raises(ConfigError, match=f"{name} is not an option of Beaker and would be passed over"):
            build({name: "x" * 40, "auto": True})

    @pytest.mark.parametrize("name", ["secert", "encrypt_keys", "typ", "expires", "ttl", "timeout", "data_dri", "ulr"])
    @each_cache
    def test_of_caches(self, build: Callable[..., Any], name: str) -> None:
        """Caches and regions refuse theirs."""
        with pytest.raises(ConfigError, match=name):
            build(**{name: "x"})

    @pytest.mark.parametrize("name", ["secert", "typ", "expires"])
    @pytest.mark.parametrize("build", CACHE_MAPPINGS.values(), ids=CACHE_MAPPINGS)
    def test_of_caches_in_a_mapping(self, build: Callable[[Given], Any], name: str) -> None:
        """The same in a mapping, for a cache and for a region."""
        for given in ({f"cache.{name}": "x"}, {"cache.regions": "short", f"cache.short.{name}": "x"}):
            with pytest.raises(ConfigError, match=name):
                build(given)

    @pytest.mark.parametrize(
        ("given", "right"),
        [
            ({"sesion.type": "file"}, "session.type"),
            ({"sesion.type": "file", "debug": "x"}, "session.type"),
            ({"sessions.secret": KEY, "session.type": "file"}, "session.secret"),
            ({"beaker.sesion.secret": KEY}, "session.secret"),
            ({"Session.secret": KEY}, "session.secret"),
            ({" session.secret": KEY}, "session.secret"),
            ({"beaker.secret": KEY, "session.type": "file"}, "session.secret"),
            ({"cache.secret": KEY}, "session.secret"),
            ({"cache.secret": KEY, "session.type": "file"}, "session.secret"),
            ({"cache.httponly": "yes", "cache.type": "file", "session.type": "file"}, "session.httponly"),
            ({"cache.validate_key": KEY, "session.auto": True}, "session.validate_key"),
        ],
    )
    @pytest.mark.parametrize("keywords", [False, True], ids=["mapping", "keywords"])
    def test_a_prefix(self, given: Given, right: str, keywords: bool) -> None:
        """An option under a misspelt prefix, or under that of caches, is refused with the right name."""
        with pytest.raises(ConfigError, match=rf"would be passed over; write {right}"):
            SessionMiddleware(app, **given) if keywords else SessionMiddleware(app, given)

    @pytest.mark.parametrize(
        "given",
        [
            {"cahce.type": "file"},
            {"session.regions": "short", "cache.type": "memory"},
            {"cache.regions": "short", "cache.shrt.type": "file"},
        ],
    )
    def test_a_prefix_of_caches(self, given: Given) -> None:
        """The same for caches, and for the name of a region."""
        with pytest.raises(ConfigError, match="passed over"):
            CacheMiddleware(app, given)

    @pytest.mark.parametrize(
        "given",
        [
            {"session.type": "memory", "sessions.type": "other", "cache2.url": "x", "mycache.type": "x"},
            {"debug": "true", "SECRET_KEY": "flask's", "sqlalchemy.url": "x", "mail.secret": "x", "who.timeout": "5"},
            {"session.type": "cookie", "session.validate_key": KEY, "cache.secret": KEY},
            {"session.type": "file", "session.data_dir": "d", "session.secret": KEY, "cache.type": "memory"},
            {"cache.type": "memory", "cache.secret": KEY, "cache.regions": "a", "cache.a.expire": "5"},
            {"beaker.session.type": "memory", "beaker.cache.type": "memory", "beaker.enabled": "yes"},
        ],
    )
    def test_neighbours_are_left_alone(self, given: Given) -> None:
        """Programs that keep the settings of many components in one mapping go on to work, without a warning."""
        parse.parse_session(given)
        parse.parse_cache(given)

    def test_what_harms_nothing_warns(self) -> None:
        """Any other unknown name is a warning, as before."""
        for name in ("colour", "compres", "lock_time", "serialiser_options"):
            with pytest.warns(ConfigWarning, match=rf"session\.{name} is not an option"):
                parse.parse_session(kwargs={name: 1})

    @pytest.mark.parametrize(
        ("given", "right"),
        [
            ({"sessio.compress": "yes", "session.type": "memory"}, "session.compress"),
            ({"sesion.auto": "yes"}, "session.auto"),
            ({"cache.auto": "yes", "session.type": "memory"}, "session.auto"),
        ],
    )
    def test_of_a_misspelt_prefix_warns(self, given: Given, right: str) -> None:
        """So is one under a misspelt prefix, or under that of caches; it was passed over without a word."""
        with pytest.warns(ConfigWarning, match=rf"would be passed over; write {right}"):
            parse.parse_session(given)
        with pytest.warns(ConfigWarning, match=r"would be passed over; write cache\.jitter"):
            parse.parse_cache({"cahce.jitter": "5", "cache.type": "memory"})

    def test_beside_a_third_party_s_store(self) -> None:
        """Its options are its own, but one letter does not turn our key into one."""
        assert parse.parse_session({"session.type": "ext:other", "session.buckets": 7}).backend == {"buckets": 7}
        with pytest.raises(ConfigError, match=r"session\.secert is not an option.*session\.secret"):
            parse.parse_session({"session.type": "ext:other", "session.secert": KEY})

    @pytest.mark.parametrize("given", [{"buckets": 7}, {"namespace_args": {"buckets": 7}}])
    def test_beside_a_third_party_s_store_of_hybrid_sessions(self, given: Given) -> None:
        """Its options are its own as well where ``session.store`` names it: in a mapping, keywords and variables."""
        hybrid = {"type": "hybrid", "store": "ext:other", "secret": KEY, **given}
        assert parse.parse_session(hybrid).backend == {"buckets": 7}
        assert parse.parse_session(kwargs=hybrid).backend == {"buckets": 7}
        said = read(
            {"BEAKER_SESSION_TYPE": "hybrid", "BEAKER_SESSION_STORE": "ext:other", "BEAKER_SESSION_BUCKETS": "7"}
        )
        assert (said.session["buckets"], said.unknown) == ("7", [])
        complete(said, Runtime(), Path("/data"), secret=lambda path: None)
        assert "data_dir" not in said.session

    @pytest.mark.parametrize("option", ["revocation", "namespace_args"])
    def test_within_an_option_of_options(self, option: str) -> None:
        """What holds a store's options is read as they are: coerced, and a misspelt one refused."""
        given: Given = {"type": "ext:redis", "url": "redis://h", "socket_timeout": "1m"}
        found = parse.parse_session({"session.type": "ext:redis", "session.url": "x", f"session.{option}": given})
        held = found.revocation if option == "revocation" else found.backend
        assert held["socket_timeout"] == 60.0
        with pytest.raises(ConfigError, match=rf"session\.{option}\.ulr is not an option"):
            parse.parse_session({"session.type": "memory", f"session.{option}": {"type": "ext:redis", "ulr": "x"}})

    @pytest.mark.parametrize("option", ["revocation", "namespace_args"])
    def test_within_an_option_of_options_no_cache_s_option_is_passed_over(self, option: str) -> None:
        """A store of sessions uses no option of caches: a key or an end in vain is refused; ``strict`` is the outer."""
        given: Given = {"session.type": "memory", "session.validate_key": KEY}
        for name, value in (("secret", KEY), ("encrypt_key", KEY), ("expire", 60)):
            with pytest.raises(ConfigError, match=rf"session\.{option}\.{name} is not an option"):
                parse.parse_session({**given, f"session.{option}": {"type": "memory", name: value}})
        held = {**given, f"session.{option}": {"type": "memory", "jitter": 0.5}}
        with pytest.warns(ConfigWarning, match=rf"session\.{option}\.jitter is not an option"):
            parse.parse_session(held)
        with pytest.raises(ConfigError, match=rf"session\.{option}\.jitter is not an option"):
            parse.parse_session({**held, "session.strict": True})

    def test_a_misspelt_name_shows_no_value(self) -> None:
        """The error names the option and never what it holds."""
        with pytest.raises(ConfigError) as caught:
            SessionMiddleware(app, {"session.secert": KEY})
        assert KEY not in str(caught.value)


class TestAddressWithoutType:
    @pytest.mark.parametrize(
        "given", [{"url": "redis://h/0"}, {"bind": object()}, {"sa.pool_size": 5}, {"client": object()}]
    )
    def test_is_refused(self, given: Given) -> None:
        """The address of a store without a type would keep everything in memory."""
        with pytest.raises(ConfigError, match=r"session\.type"):
            SessionMiddleware(app, **given)
        with pytest.raises(ConfigError, match=r"cache\.type"):
            CacheManager(**given)
        with pytest.raises(ConfigError, match=r"cache\.r\.type"):
            CacheManager(regions="r", **{f"r.{name}": value for name, value in given.items()})

    def test_a_hybrid_s_store_without_its_type(self) -> None:
        """session.store alone would be passed over."""
        with pytest.raises(ConfigError, match=r"session\.type.*hybrid"):
            SessionMiddleware(app, store="file", secret=KEY)

    def test_general_options_of_regions(self) -> None:
        """One address for regions that name their types is right."""
        parse.parse_cache({"cache.url": "h:1", "cache.regions": "a", "cache.a.type": "ext:memcached"})

    def test_older_keys_without_a_key(self) -> None:
        """secret_fallbacks alone would leave sessions without any key."""
        with pytest.raises(ConfigError, match=r"session\.secret_fallbacks"):
            SessionMiddleware(app, secret_fallbacks=[KEY])
