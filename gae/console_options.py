"""Who may see the console, where it is, and the prices it reckons by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beaker.config.coerce import as_bool, as_list
from beaker.crypto.form import check_key
from beaker.exceptions import ConfigError
from beaker.runtime import Platform, Runtime
from beaker.telemetry.prices import Prices, price_table
from gae.kept_secret import only_line
from gae.secret_manager import is_reference, read_secret

__all__ = ["PATH", "ConsoleOptions"]

PATH = "/_beaker/"
WAYS = (
    "BEAKER_CONSOLE_SECRET; BEAKER_CONSOLE_IAP_AUDIENCE with BEAKER_CONSOLE_IAP_USERS; on App Engine"
    " BEAKER_CONSOLE_APPENGINE_ADMIN=true"
)
_SHORTEST_SECRET = 16
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")


@dataclass(frozen=True)
class ConsoleOptions:
    """One of the three ways of protection at least; a visitor who passes any of them is let in.

    - ``secret``: sent as the password of HTTP Basic (any user name) or as a bearer token; a ConfigError under 16 bytes.
    - ``iap_audience``, ``iap_users``: what Identity-Aware Proxy signs its assertions for, and the e-mail addresses that
      are let in. It lets in whoever may use the application, so one without the other is a ConfigError.
    - ``appengine_admin``: whom App Engine names an administrator, behind a handler with ``login: admin``. Counts on App
      Engine's standard environment only.
    - ``prices``: by backend, as :func:`beaker.telemetry.prices.price_table` takes them.
    - ``path``: where ``compose`` puts it.

    Raises ConfigError, code ``config.open-console``, when none of the ways is configured.
    """

    secret: str | None = field(default=None, repr=False)
    iap_audience: str | None = None
    iap_users: tuple[str, ...] = ()
    appengine_admin: bool = False
    prices: Mapping[str, Prices] = field(default_factory=dict)
    path: str = PATH

    def __post_init__(self) -> None:
        if not (self.secret or self.iap_audience or self.iap_users or self.appengine_admin):
            raise ConfigError(
                "the console would be open to everybody",
                option="BEAKER_CONSOLE_SECRET",
                expected=f"a protection: {WAYS}",
                hint="docs/console.md shows each; BEAKER_CONSOLE=false does without a console",
                code="config.open-console",
            )
        if self.secret is not None and len(self.secret.encode()) < _SHORTEST_SECRET:
            raise ConfigError(
                "BEAKER_CONSOLE_SECRET is too short",
                option="BEAKER_CONSOLE_SECRET",
                expected=f"at least {_SHORTEST_SECRET} bytes",
                hint="create one with `python -m beaker keys new`",
                code="config.weak-key",
            )
        if bool(self.iap_audience) != bool(self.iap_users):
            missing = "BEAKER_CONSOLE_IAP_USERS" if self.iap_audience else "BEAKER_CONSOLE_IAP_AUDIENCE"
            raise ConfigError(
                "Identity-Aware Proxy needs an audience and the users who are let in",
                option=missing,
                expected="BEAKER_CONSOLE_IAP_AUDIENCE and BEAKER_CONSOLE_IAP_USERS",
                code="config.open-console",
            )
        if not _PATH.fullmatch(self.path):
            raise ConfigError(
                "BEAKER_CONSOLE_PATH is no place for the console",
                option="BEAKER_CONSOLE_PATH",
                expected=f"a path such as {PATH}",
            )
        object.__setattr__(self, "prices", price_table(_plain(self.prices)))

    def knows_admins(self, runtime: Runtime) -> bool:
        """Whether App Engine's header counts on this platform.

        Raises ConfigError, code ``config.open-console``, when it does not and nothing else lets anybody in.
        """
        # Its front end removes the header from what a visitor sends; elsewhere anybody can send it.
        if self.appengine_admin and runtime.platform is Platform.APPENGINE:
            return True
        if not (self.secret or self.iap_users):
            raise ConfigError(
                "administrators are known on App Engine's standard environment only: nobody could see the console",
                option="BEAKER_CONSOLE_APPENGINE_ADMIN",
                expected=f"another protection: {WAYS}",
                code="config.open-console",
            )
        return False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, client: Any = None) -> ConsoleOptions:
        """What the ``BEAKER_CONSOLE_`` variables say. Raises ConfigError naming the variable."""

        def text(variable: str) -> str | None:
            return environ.get(f"BEAKER_CONSOLE_{variable}", "").strip() or None

        secret, path, prices = text("SECRET"), text("SECRET_FILE"), text("PRICES")
        if is_reference(secret):
            secret = read_secret(str(secret), option="BEAKER_CONSOLE_SECRET", client=client)
        elif path:
            secret = only_line(path, "BEAKER_CONSOLE_SECRET_FILE")
        if secret is not None:
            check_key(secret.encode(), "BEAKER_CONSOLE_SECRET")
        return cls(
            secret,
            text("IAP_AUDIENCE"),
            tuple(as_list("BEAKER_CONSOLE_IAP_USERS", text("IAP_USERS") or [])),
            as_bool("BEAKER_CONSOLE_APPENGINE_ADMIN", text("APPENGINE_ADMIN") or False),
            _prices(prices) if prices else {},
            text("PATH") or PATH,
        )


def _plain(prices: Any) -> Any:
    if not isinstance(prices, Mapping):
        raise ConfigError("there are no prices", option="prices", expected="a mapping by backend")
    return {name: own._asdict() if isinstance(own, Prices) else own for name, own in prices.items()}


def _prices(path: str) -> Mapping[str, Prices]:
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"BEAKER_CONSOLE_PRICES names a file that cannot be read ({type(error).__name__}): {path}",
            option="BEAKER_CONSOLE_PRICES",
            expected="a JSON object by backend, as `beaker stats --prices` takes it",
            code="config.unreadable-file",
        ) from error
    return price_table(_plain(found))
