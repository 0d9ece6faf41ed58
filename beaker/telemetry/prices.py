"""What store operations cost, by a price list of your own: Beaker knows no prices.

::

    table = price_table({
        "ext:google": {"reads": "0.03", "writes": "0.09", "deletes": "0.01", "storage": "0.15"},
    })
    cost_a_day(counters.snapshot(), table, stored={"ext:google": 5_000_000})["ext:google"].total

Prices change and differ by region and contract: copy those of your bill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from beaker.counters import Snapshot
from beaker.exceptions import ConfigError

__all__ = ["Cost", "Prices", "cost_a_day", "price_table"]

_DAY = 86_400.0
_MONTH = 30.0
"""Days: storage is billed by the month."""


class Prices(NamedTuple):
    """The prices of one backend, in any currency."""

    reads: float = 0.0
    """Of ``per`` reads."""
    writes: float = 0.0
    """Of ``per`` writes."""
    deletes: float = 0.0
    """Of ``per`` deletions."""
    storage: float = 0.0
    """Of a GiB (2**30 bytes) for a month of 30 days."""
    per: float = 100_000.0
    """How many operations a price is for."""


class Cost(NamedTuple):
    """Money a day, in the currency of the prices."""

    reads: float
    writes: float
    deletes: float
    storage: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def price_table(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Prices]:
    """Prices by backend from a mapping such as JSON or TOML gives; numbers may be text.

    ConfigError for a name that :class:`Prices` does not have, and for what is no price: a finite number, 0 or more.
    """
    return {backend: Prices(**_checked(backend, prices)) for backend, prices in options.items()}


def _checked(backend: str, prices: object) -> dict[str, float]:
    if not isinstance(prices, Mapping):
        raise _wrong(f"the prices of {backend}", "a mapping of names to numbers", type(prices).__name__)
    for name in prices:
        if name not in Prices._fields:
            raise _wrong(f"{backend}.{name}", f"one of {', '.join(Prices._fields)}", "another name")
    return {name: _number(f"{backend}.{name}", value) for name, value in prices.items()}


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf or (name.endswith(".per") and number == 0):
        raise _wrong(name, "a number, 0 or more", type(value).__name__)
    return number


def _wrong(name: str, expected: str, got: str) -> ConfigError:
    return ConfigError(f"{name} is no price", option="prices", expected=expected, got=got)


def cost_a_day(
    snapshot: Snapshot, prices: Mapping[str, Prices], *, stored: Mapping[str, float] | None = None
) -> dict[str, Cost]:
    """What a day like the time of ``snapshot`` costs, for each backend that has prices.

    The counts are those of one process: multiply by the processes, or add up. ``stored``: bytes kept, by backend.
    """
    days = snapshot.seconds / _DAY
    used = {stats.backend: stats for stats in snapshot.stores}
    costs = {}
    for backend, price in prices.items():
        stats = used.get(backend)
        gibibytes = (stored or {}).get(backend, 0.0) / 2**30
        share = 0.0 if stats is None or not days else 1 / price.per / days
        costs[backend] = Cost(
            reads=share * price.reads * (stats.reads if stats else 0),
            writes=share * price.writes * (stats.writes if stats else 0),
            deletes=share * price.deletes * (stats.deletes if stats else 0),
            storage=gibibytes * price.storage / _MONTH,
        )
    return costs
