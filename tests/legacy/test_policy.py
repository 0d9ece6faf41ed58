"""The option ``session.legacy``: what it takes, and what it refuses at start-up."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from beaker.config.parse import parse_session
from beaker.exceptions import ConfigError, ConfigWarning, InvalidCacheBackendError, InvalidCryptoBackendError
from beaker.session.context import SessionContext
from beaker.session.legacy.policy import LegacyPolicy
from beaker.session.opening import legacy_reader, opener
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET
from tests.legacy.corpus import COOKIE

NOW = 1_700_000_000.0
KEYS = {"validate_key": "old-validate-key-for-tests"}
UNTIL = "2023-12-01"


def policy(**given: Any) -> LegacyPolicy:
    return LegacyPolicy.from_option({"until": UNTIL, **KEYS, **given}, clock=lambda: NOW)


def context(legacy: object, **more: Any) -> SessionContext:
    options = {"type": "memory", "secret": SECRET, "key": COOKIE, "legacy": legacy, **more}
    found = SessionContext(parse_session(kwargs=options), clock=FakeClock(NOW))
    opener(found)
    return found


MOMENTS = [
    "2023-12-01",
    "2023-12-01T00:00:00",
    "2023-12-01T00:00:00Z",
    "2023-12-01T01:00:00+01:00",
    dt.date(2023, 12, 1),
    dt.datetime(2023, 12, 1),
    dt.datetime(2023, 12, 1, tzinfo=dt.timezone.utc),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_until_is_a_date(moment: object) -> None:
    """Text, date or datetime; without a zone it is UTC."""
    assert policy(until=moment).until == dt.datetime(2023, 12, 1, tzinfo=dt.timezone.utc).timestamp()


@pytest.mark.parametrize("moment", ["soon", "", 1_701_000_000, True, "2023-13-01"])
def test_other_moments_are_refused(moment: object) -> None:
    """A number would be easy to mistake for days."""
    with pytest.raises(ConfigError, match="until"):
        policy(until=moment)


def test_until_is_needed_and_at_most_90_days_ahead() -> None:
    """The policy has a limit because it accepts SHA-1."""
    with pytest.raises(ConfigError, match="until"):
        LegacyPolicy.from_option(KEYS, clock=lambda: NOW)
    with pytest.raises(ConfigError, match="until"):
        policy(until=None)
    end = dt.datetime.fromtimestamp(NOW + 90 * 86400, dt.timezone.utc)
    assert policy(until=end).until == NOW + 90 * 86400
    with pytest.raises(ConfigError, match="90 days"):
        policy(until=end + dt.timedelta(seconds=1))
    with pytest.raises(ConfigError, match="90 days"):
        context(LegacyPolicy(until=float("nan")))


def test_a_policy_that_is_over_warns() -> None:
    """A deployment may go on with it, but a warning says to remove it."""
    with pytest.warns(ConfigWarning, match=r"session\.legacy is over"):
        context({"until": "2023-01-01", **KEYS})


def test_json_text_is_a_dict() -> None:
    """For INI files and environment variables; ``null`` counts as absent."""
    text = json.dumps({"until": UNTIL, "secret": None, **KEYS})
    assert LegacyPolicy.from_option(text, clock=lambda: NOW) == policy()
    assert legacy_reader(context(text)) is not None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"validate_key": None}, "secret"),
    ({"secret": "s"}, "type"),
    ({"unsigned": True}, "type"),
    ({"secret": "s", "type": "file"}, "data_dir"),
    ({"secret": "s", "type": "ext:redis"}, "url"),
    ({"secret": "s", "type": "ext:google"}, "type"),
    ({"validate_key": None, "encrypt_key": "e", "secret": "s", "data_dir": "/d"}, "validate_key"),
    ({"pickle": "yes"}, "pickle"),
    ({"crypto_type": "nss"}, "crypto_type"),
    ({"keep": "maybe"}, "keep"),
    ({"max_bytes": 0}, "max_bytes"),
    ({"secrets": "s"}, "secrets"),
    ({"since": "x"}, "since"),
    ({"validate_key": 7}, "validate_key"),
    ({"validate_key": ""}, "validate_key"),
]


@pytest.mark.parametrize(("given", "option"), REFUSED, ids=str)
def test_what_cannot_work_is_refused(given: dict[str, Any], option: str) -> None:
    """With the name of the option, and never with a key."""
    with pytest.raises(ConfigError, match=rf"legacy.*{option}") as refused:
        policy(**given)
    assert KEYS["validate_key"] not in str(refused.value)


@pytest.mark.parametrize("value", ["{", "[]", "3", 3, [], {1: 2}], ids=str)
def test_other_values_are_refused(value: object) -> None:
    """The option is a dict, or JSON text of one."""
    with pytest.raises(ConfigError, match=r"session\.legacy"):
        LegacyPolicy.from_option(value, clock=lambda: NOW)


def test_defaults() -> None:
    """Whatever is not given is the safe choice."""
    made = policy()
    assert (made.unsigned, made.keep, made.pickles, made.limit) == (False, False, True, 65_536)
    assert made.type is None
    assert policy(max_bytes=1 << 30).limit == 1 << 20


@pytest.mark.parametrize(
    ("given", "type"),
    [
        ({"data_dir": "/d"}, "file"),
        ({"file_dir": "/d"}, "file"),
        ({"dbm_dir": "/d"}, "dbm"),
        ({"type": "dbm", "data_dir": "/d"}, "dbm"),
        ({"type": "memcached", "url": "h:1"}, "ext:memcached"),
        ({"type": "cookie"}, None),
    ],
)
def test_types(given: dict[str, str], type: str | None) -> None:
    """The old names, and what a directory alone says."""
    assert policy(**given).type == type


def test_keys_may_be_lists_and_hold_commas(tmp_path: Path) -> None:
    """An old secret was any text; several are a list; a file may hold them."""
    assert policy(secret="a,b", data_dir="/d").secrets == (b"a,b",)
    assert policy(secret=["a", "b"], data_dir="/d").secrets == (b"a", b"b")
    (tmp_path / "keys").write_text("one\ntwo\n")
    assert policy(secret=f"file:{tmp_path / 'keys'}", data_dir="/d").secrets == (b"one", b"two")


def test_keep_needs_a_cookie_of_another_name() -> None:
    """Two fleets cannot share one cookie that each writes in its own form."""
    with pytest.raises(ConfigError, match="keep"):
        context({"until": UNTIL, **KEYS, "keep": True})
    with pytest.raises(ConfigError, match="keep"):
        context({"until": UNTIL, **KEYS, "keep": True, "key": COOKIE})
    assert legacy_reader(context({"until": UNTIL, **KEYS, "keep": True, "key": "old"})) is not None


@pytest.mark.parametrize(
    ("module", "given", "error"),
    [
        ("cryptography.hazmat.primitives", {"encrypt_key": "e"}, InvalidCryptoBackendError),
        ("sqlalchemy", {"type": "ext:database", "url": "sqlite://"}, InvalidCacheBackendError),
        ("pymemcache.client.base", {"type": "ext:memcached", "url": "h:1"}, InvalidCacheBackendError),
        ("redis", {"type": "ext:redis", "url": "redis://h"}, InvalidCacheBackendError),
    ],
)
def test_a_missing_package_is_named_at_start_up(
    module: str, given: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the first request of a visitor."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(error, match="pip install"):
        context({"until": UNTIL, **KEYS, **given})


@pytest.mark.parametrize(
    ("type", "url"),
    [
        ("ext:database", "nonsense:hush"),
        ("ext:database", "bogus://user:hush@h/d"),
        ("ext:redis", "redis://user:hush@h:x/"),
        ("ext:redis", "hush"),
        ("ext:memcached", "h:hush"),
        ("ext:memcached", ";"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_at_start_up(type: str, url: str) -> None:
    """As an error of the configuration, without the url."""
    with pytest.raises(ConfigError, match=r"session\.legacy\.url") as refused:
        context({"until": UNTIL, "secret": "s", "type": type, "url": url})
    assert "hush" not in "".join(traceback.format_exception(refused.value))


def test_a_policy_of_the_class_is_checked_too() -> None:
    """Ids without a store lead nowhere, however the policy was built."""
    with pytest.raises(ConfigError, match=r"session\.legacy\.type"):
        context(LegacyPolicy(until=NOW + 1, secrets=(b"s",)))


def test_without_the_option_nothing_is_loaded() -> None:
    """The reader costs nothing where it is not wanted."""
    program = (
        "import sys; from beaker.middleware import SessionMiddleware;"
        f"SessionMiddleware(print, type='memory', secret={SECRET!r}, legacy=LEGACY);"
        "print(any(name.startswith('beaker.session.legacy') for name in sys.modules))"
    )
    for option, loaded in (
        ("None", "False"),
        (f"dict(until={dt.date.today().isoformat()!r}, validate_key='k')", "True"),
    ):
        command = [sys.executable, "-W", "ignore", "-c", program.replace("LEGACY", option)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == loaded
