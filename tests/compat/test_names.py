"""Each older name is where programs look for it, and does what the page "Moving from Beaker" says of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beaker import _compat, converters, crypto, synchronization, util
from beaker.crypto import pbkdf2 as derivation
from beaker.exceptions import (
    ConfigError,
    CorruptRecord,
    InvalidCacheBackendError,
    InvalidCryptoBackendError,
    UnserializableValue,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "migrating.md").read_text("utf-8")
NAMES = {
    "beaker._compat": ("PY2", "b64decode", "b64encode", "bytes_", "pickle", "string_type", "u_", "unicode_text"),
    "beaker.cache": ("_backends", "_cache_decorate", "cache_managers", "clsmap", "util"),
    "beaker.container": ("AbstractDictionaryNSManager", "ContainerContext", "DbmContainer", "logger"),
    "beaker.converters": ("asbool", "aslist"),
    "beaker.crypto": ("generateCryptoKeys", "get_crypto_module", "has_aes"),
    "beaker.crypto.pbkdf2": ("pbkdf2",),
    "beaker.crypto.util": ("hmac", "hmac_sha1", "md5", "sha1"),
    "beaker.ext.mongodb": ("MongoNamespaceManager",),
    "beaker.ext.rediscluster": ("RedisClusterNamespaceManager",),
    "beaker.ext.redisnm": ("RedisNamespaceManager", "RedisSynchronizer"),
    "beaker.middleware": ("session_filter_app_factory", "session_filter_factory"),
    "beaker.synchronization": ("_synchronizers", "file_synchronizer", "mutex_synchronizer", "null_synchronizer"),
    "beaker.util": (
        "JsonSerializer",
        "PickleSerializer",
        "asbool",
        "asint",
        "aslist",
        "coerce_cache_params",
        "coerce_session_params",
        "deserialize",
        "machine_identifier",
        "serialize",
        "verify_options",
        "verify_rules",
    ),
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_there_and_in_the_table(module: str) -> None:
    """Every name can be imported from its older place, and the page has a row with it."""
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and f"`{module}`" in row]
    for name in NAMES[module]:
        assert getattr(importlib.import_module(module), name) is not None
        assert any(re.search(rf"`{re.escape(name)}`", row) for row in rows), f"{module}: {name} is not in the table"


def test_import_beaker_is_enough() -> None:
    """``import beaker`` loads nothing; its modules load when they are used, other names are AttributeErrors."""
    program = (
        "import sys, beaker\n"
        "assert not [name for name in sys.modules if name.startswith('beaker.')], 'loaded'\n"
        "beaker.cache.cache_regions.update(short={'type': 'memory'})\n"
        "beaker.cache.CacheManager(**beaker.util.parse_cache_config_options({'cache.type': 'memory'}))\n"
        "beaker.session.SessionObject; beaker.middleware.SessionMiddleware; beaker.container.NamespaceManager\n"
        "assert not hasattr(beaker, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_booleans_lists_and_numbers() -> None:
    """As in Beaker: words in any case, other objects by their truth; anything else is an error."""
    assert [converters.asbool(word) for word in ("yes", " On ", "T", "1")] == [True] * 4
    assert [converters.asbool(word) for word in ("no", "off", "f", "0")] == [False] * 4
    assert [converters.asbool(value) for value in (None, 3, 0)] == [False, True, False]
    for text in ("perhaps", ""):
        with pytest.raises(ValueError):
            converters.asbool(text)
    assert converters.aslist(" a b ") == ["a", "b"]
    assert converters.aslist("a, b", ",") == ["a", "b"]
    assert converters.aslist(" a , b ", ",", strip=False) == [" a ", " b "]
    assert [converters.aslist(value) for value in (None, "", ("a",), 5)] == [[], [], ("a",), [5]]
    assert (util.asint("5"), util.asint(5.0)) == (5, 5)
    for wrong in ("x", "", None):
        with pytest.raises(ConfigError):
            util.asint(wrong)


@pytest.mark.parametrize(
    ("given", "coerced"),
    [
        ({"timeout": "12", "key": "k"}, {"timeout": 12, "key": "k"}),
        ({"cookie_expires": "3600"}, {"cookie_expires": dt.timedelta(seconds=3600)}),
        ({"cookie_expires": "0"}, {"cookie_expires": False}),
        ({"cookie_expires": "true", "auto": "yes"}, {"cookie_expires": True, "auto": True}),
        ({"type": None, "secret": ["a", "b"]}, {"type": None, "secret": ["a", "b"]}),
        ({"data_dir": Path("/x"), "samesite": 3}, {"data_dir": "/x", "samesite": 3}),
        ({"save_accessed_time": "false"}, {"save_accessed_time": False}),
        ({"encrypt_nonce_bits": "48", "httponly": "on"}, {"encrypt_nonce_bits": 48, "httponly": True}),
    ],
)
def test_session_options_are_coerced_in_place(given: dict[str, Any], coerced: dict[str, Any]) -> None:
    """The mapping itself is changed and returned; unknown options stay."""
    options = {**given, "mine": "1"}
    assert util.coerce_session_params(options) is options
    assert options == {**coerced, "mine": "1"}


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": "abc"},
        {"timeout": ""},
        {"cookie_expires": "abc"},
        {"auto": "perhaps"},
        {"auto": ""},
        {"key": ""},
        {"timeout": "10", "save_accessed_time": "false"},
    ],
)
def test_a_wrong_session_option_is_named(given: dict[str, Any]) -> None:
    """What Beaker refused is refused: an error that names the option and not its value."""
    with pytest.raises(ConfigError, match=f"session.{list(given)[-1]}") as caught:
        util.coerce_session_params(dict(given))
    assert "abc" not in str(caught.value)


def test_cache_options_are_coerced_in_place() -> None:
    """As those of sessions; regions become a list, an empty text one with an empty name, as before."""
    options: dict[str, Any] = {"expire": "12", "regions": "a, b", "enabled": "false", "key_length": "9", "url": 3}
    assert util.coerce_cache_params(options) is options
    assert options == {"expire": 12, "regions": ["a", "b"], "enabled": False, "key_length": 9, "url": 3}
    assert util.coerce_cache_params({"regions": ""}) == {"regions": [""]}
    for wrong in ({"expire": "abc"}, {"expire": ""}, {"key_length": "x"}, {"enabled": "x"}):
        with pytest.raises(ConfigError, match=f"cache.{next(iter(wrong))}"):
            util.coerce_cache_params(dict(wrong))


def test_rules() -> None:
    """The first type that an option's text converts to wins; the rule's own text is the error."""
    assert util.verify_options("5", (int,), "wrong") == 5
    assert util.verify_options("a,b", list, "wrong") == ["a", "b"]
    assert util.verify_options(5, str, "wrong") == "5"
    assert util.verify_rules({"a": "5"}, [("a", (int,), "e"), ("b", (str,), "f")]) == {"a": 5}
    for value, types in (("x", (int,)), ("", (str,)), ("x", (bool, int))):
        with pytest.raises(ConfigError, match="not like that"):
            util.verify_options(value, types, "not like that")


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit",))


def test_serializers_read_what_they_wrote() -> None:
    """Plain values by either method."""
    value: dict[str, Any] = {"a": [1, None, "ü"], "b": 1.5}
    for method in ("json", "pickle"):
        assert util.deserialize(util.serialize(value, method), method) == value


def test_no_pickle_runs() -> None:
    """A pickle that names anything is refused, not executed; so is other data, and JSON that unpacks to megabytes."""
    for data in (pickle.dumps(Evil()), b"rubbish", b""):
        with pytest.raises(CorruptRecord):
            util.deserialize(data, "pickle")
    bomb = util.JsonSerializer().dumps("a" * (2 << 20))
    for data in (bomb, bomb[:-5], b"rubbish"):
        with pytest.raises(CorruptRecord):
            util.deserialize(data, "json")
    with pytest.raises(UnserializableValue):
        util.serialize(object(), "json")


def test_derived_keys_are_the_same() -> None:
    """PBKDF2 gives what Beaker 1.14 gave, so stored hashes can be checked."""
    expected = bytes.fromhex("36d6c2689e9df52bcabf5d4f2e41386d60948c106baefdb26565c5af80bef9a6")
    assert crypto.generateCryptoKeys("master", "salt", 2, 32) == expected
    assert derivation.pbkdf2(b"master", b"salt", 2, 32) == expected
    assert len(derivation.pbkdf2("m", "s", 1)) == 20
    assert derivation.pbkdf2("m", "s", 1, digest=hashlib.sha256) == derivation.pbkdf2("m", "s", 1, digest="sha256")


def test_encryption_by_its_older_name() -> None:
    """Any library's name is AES-256-GCM: what was changed, or belongs to another key, does not open."""
    module, key = crypto.get_crypto_module("pycryptodome"), bytes(range(32))
    assert crypto.has_aes is True
    assert module.getKeyLength() == len(key)
    sealed = module.aesEncrypt(b"secret", key)
    assert module.aesDecrypt(sealed, key) == b"secret"
    for data, other in ((sealed[:-1] + bytes([sealed[-1] ^ 1]), key), (sealed, bytes(32))):
        with pytest.raises(CorruptRecord):
            module.aesDecrypt(data, other)
    with pytest.raises(ConfigError):
        module.aesEncrypt(b"secret", b"short")
    with pytest.raises(InvalidCryptoBackendError):
        crypto.get_crypto_module("rot13")


def test_text_helpers() -> None:
    """The few of beaker._compat that programs for Python 3 still import."""
    assert (_compat.bytes_("ü"), _compat.u_(b"\xc3\xbc"), _compat.u_(5)) == (b"\xc3\xbc", "ü", "5")
    assert _compat.b64decode(_compat.b64encode(b"\0\xff")) == b"\0\xff"
    assert (_compat.PY2, _compat.string_type, _compat.pickle) == (False, str, pickle)


def test_the_machine_keeps_its_name() -> None:
    """The same all through a process, and nothing of the machine in it."""
    assert util.machine_identifier() == util.machine_identifier()
    assert re.fullmatch("[0-9a-f]{32}", util.machine_identifier())


def test_ids_for_a_programs_own_use() -> None:
    """``_session_id`` draws a new one at each call."""
    from beaker.session import _session_id

    assert len({_session_id() for _ in range(9)}) == 9
    assert re.fullmatch("[0-9a-f]{32}", _session_id())


def test_live_synchronizers_are_listed() -> None:
    """``_synchronizers`` has those in use."""
    before = len(synchronization._synchronizers.dict)
    held = synchronization.mutex_synchronizer("tests.compat")
    assert len(synchronization._synchronizers.dict) == before + 1
    del held


def test_mongodb_says_what_to_do() -> None:
    """The type is known by name, and its error names the ways out; no list of types offers it."""
    from beaker.cache import Cache, clsmap

    with pytest.raises(InvalidCacheBackendError, match=r"ext:mongodb.*ext:redis.*register_backend"):
        Cache("ns", type="ext:mongodb", url="mongodb://localhost")
    assert "ext:mongodb" not in clsmap
