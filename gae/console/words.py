"""Numbers with their units, for people."""

from __future__ import annotations

from beaker.operations.inventory import size

__all__ = ["count", "duration", "ratio", "seconds", "size"]


def count(number: float) -> str:
    """How many: exact up to a million."""
    for divisor, unit in ((1e9, "G"), (1e6, "M")):
        if number >= divisor:
            return f"{number / divisor:,.2f} {unit}"
    return f"{number:,.0f}"


def ratio(part: int, whole: int) -> str:
    """A share in percent; it is 100 % only when it is all."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return "100 %" if part == whole else f"{min(share, 99.9):.1f} %"


def seconds(number: float) -> str:
    """A short time."""
    if number < 1:
        milliseconds = number * 1000
        return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{number:.1f} s" if number < 120 else duration(number)


def duration(number: float) -> str:
    """A long time, by its two largest units."""
    whole, parts = int(number), []
    for size_, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        amount, whole = divmod(whole, size_)
        if amount:
            parts.append(f"{amount} {unit}")
        if len(parts) == 2 or (parts and unit == "min"):
            break
    return " ".join(parts) or "0 s"
