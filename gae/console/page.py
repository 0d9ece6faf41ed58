"""The page as HTML. Everything that is not written here is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

from beaker import __version__
from beaker.operations.report import OptionRow, Report
from gae.console.facts import Facts, KeyRow, RegionRow, slowest
from gae.console.history import MINUTES, Minute
from gae.console.style import STYLE
from gae.console.words import count, duration, ratio, seconds, size

__all__ = ["Notice", "render", "sentence"]

_BAR, _HEIGHT = 3, 34


class Notice(NamedTuple):
    """What the last button did."""

    good: bool
    text: str


def render(facts: Facts, token: str, way: str, notice: Notice | None = None) -> str:
    """The whole page; ``token`` is what its forms hold, ``way`` how the reader was let in."""
    said = "" if notice is None else _notice(notice)
    place = " · ".join(filter(None, (_detected(facts.report, "platform"), _detected(facts.report, "project"))))
    return _document(
        f"""<header><div><h1>Beaker console</h1>
<p>This instance: {escape(place)}, counting for {duration(facts.snapshot.seconds)}</p></div>
<p><a href="?">Refresh</a></p></header>{said}
{_tiles(facts)}
{_regions(facts, token)}
<div class="pair">{_sessions(facts)}{_keys(facts.keys)}</div>
{_stores(facts, token)}
{_findings(facts.report)}
{_options(facts.report)}
{_events(facts)}
<footer>Beaker {escape(__version__)}, Python {escape(_detected(facts.report, "python"))}. You were let in
{"by the secret" if way == "secret" else f"as {escape(way)}"}. Every process has counts of its own: another instance
shows others.</footer>"""
    )


def sentence(title: str, text: str) -> str:
    """A page that says one thing and leads back."""
    body = f'<h1>{escape(title)}</h1><p>{escape(text)}</p><p><a href="?">Back to the console</a></p>'
    return _document(f"<section>{body}</section>")


def _document(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Beaker console</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _notice(notice: Notice) -> str:
    kind = "notice" if notice.good else "notice bad"
    return f'<section class="{kind}"><p role="status">{escape(notice.text)}</p></section>'


def _detected(report: Report, name: str) -> str:
    return next((item.value for item in report.detected if item.name == name and item.value != "none"), "")


def _section(name: str, title: str, body: str, beside: str = "") -> str:
    heading = f'<div class="title"><h2 id="{name}">{title}</h2>{beside}</div>'
    return f'<section aria-labelledby="{name}">{heading}{body}</section>'


def _hint(text: str) -> str:
    return f'<p class="hint">{text}</p>'


def _form(token: str, action: str, label: str, region: str = "") -> str:
    fields = {"token": token, "action": action, **({"region": region} if region else {})}
    hidden = "".join(f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items())
    return f'<form method="post">{hidden}<button>{label}</button></form>'


class _Cell(NamedTuple):
    """HTML, under which heading, and how it is set."""

    html: str
    label: str = ""
    kind: str = ""


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[_Cell]], kind: str = "") -> str:
    # A table that a narrow screen shows as blocks stays one for a screen reader by its roles.
    head = "".join(f'<th scope="col" role="columnheader" class="{how}">{text}</th>' for text, how in heads)
    body = ""
    for first, *others in rows:
        cells = "".join(
            f'<td role="cell" class="{cell.kind}"' + (f' data-label="{cell.label}"' if cell.label else "") + ">"
            f"<div>{cell.html}</div></td>"
            for cell in others
        )
        body += f'<tr role="row"><th scope="row" role="rowheader">{first.html}</th>{cells}</tr>'
    return (
        f'<table role="table" class="{kind}"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _numbers(pairs: Iterable[tuple[str, str]]) -> list[_Cell]:
    return [_Cell(html, label, "number") for label, html in pairs]


def _tiles(facts: Facts) -> str:
    regions = [row.stats for row in facts.regions]
    hits, calls = sum(one.hits for one in regions), sum(one.calls for one in regions)
    created, spent = sum(one.creations for one in regions), sum(one.seconds.sum for one in regions)
    loaded, saved = (
        sum(one.loaded for one in facts.snapshot.sessions),
        sum(one.saved for one in facts.snapshot.sessions),
    )
    stores = facts.snapshot.stores
    done = sum(one.reads + one.writes + one.deletes for one in stores)
    severities = [finding.severity for finding in facts.report.findings]
    worst = next((kind for kind in ("error", "warning") if kind in severities), "good")
    tiles = [
        ("Hit ratio", ratio(hits, calls), f"of {count(calls)} calls", ""),
        ("Creations", count(created), f"{seconds(spent / created)} each" if created else "none yet", ""),
        ("Sessions loaded", count(loaded), f"{count(saved)} saved", ""),
        ("Store operations", count(done), "reads, writes, deletes", ""),
    ]
    if facts.costs:
        tiles.append(("Cost a day", f"{sum(cost.total for cost in facts.costs.values()):,.4f}", "at this rate", ""))
    tiles.append(("Findings", _worst(severities), "see below" if severities else "nothing is wrong", worst))
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div><dt>{name}</dt><dd class="big {kind}">{value}</dd><dd class="sub">{sub}</dd></div>'
            for name, value, sub, kind in tiles
        )
        + "</dl>"
    )


def _worst(severities: Sequence[str]) -> str:
    for kind in ("error", "warning", "note"):
        number = severities.count(kind)
        if number:
            return f"{number} {kind}{'s' * (number > 1)}"
    return "none"


def _regions(facts: Facts, token: str) -> str:
    if not facts.regions:
        return _section("regions", "Regions", _hint("No region is configured, and no cache was used."))
    heads = [("Region", ""), *((name, "number") for name in ("Hit ratio", "Calls", "Creation")), ("Last hour", "hour")]
    rows = [_region(row, token) for row in facts.regions]
    table = _table([*heads, ('<span class="unseen">Action</span>', "")], rows)
    legend = '<p class="hint"><span class="key hits"></span>hits<span class="key misses"></span>misses, by minute</p>'
    hint = _hint(
        "Invalidate clears the caches of a region that this instance has opened. Values in a store that instances share"
        " are gone for all of them; in memory, for this instance. A region with region_stamp is invalidated everywhere."
    )
    return _section("regions", "Regions", table + hint, legend)


def _region(row: RegionRow, token: str) -> list[_Cell]:
    stats = row.stats
    how = [row.kind, f"kept {duration(row.expire)}" if row.expire else ""] if row.name else ["caches of their own"]
    name = f'{escape(row.name) or "no region"}<span class="sub">{escape(", ".join(filter(None, how)))}</span>'
    unusual = [(stats.stale, "stale"), (stats.waits, "waited"), (stats.errors, "failed")]
    calls = count(stats.calls) + _sub(", ".join(f"{count(number)} {word}" for number, word in unusual if number))
    creation = "–"
    if stats.creations:
        bound = slowest(stats.seconds)
        most = f"95 % up to {seconds(bound)}" if bound else f"some over {seconds(stats.seconds.bounds[-1])}"
        creation = f"{seconds(stats.seconds.mean)}{_sub(most)}{_sub(f'{count(stats.creations)} times')}"
    button = _form(token, "invalidate", f'Invalidate<span class="unseen"> {escape(row.name)}</span>', row.name)
    return [
        _Cell(name + _namespaces(row)),
        _Cell(f'<span class="strong">{ratio(stats.hits, stats.calls)}</span>', "Hit ratio", "number"),
        *_numbers([("Calls", calls), ("Creation", creation)]),
        _Cell(_sparkline(row.name or "no region", row.minutes), "Last hour", "hour"),
        _Cell(button if row.name else "", "", "act"),
    ]


def _namespaces(row: RegionRow) -> str:
    if not row.namespaces:
        return ""
    items = "".join(
        f"<li><code>{escape(one.namespace)}</code> {ratio(one.hits, one.calls)} of {count(one.calls)}</li>"
        for one in row.namespaces
    )
    more = f"<li>and {count(row.unnamed)} more</li>" if row.unnamed else ""
    number = len(row.namespaces) + row.unnamed
    word = "namespace" if number == 1 else "namespaces"
    return f'<details><summary>{count(number)} {word}</summary><ul class="names">{items}{more}</ul></details>'


def _sub(text: str) -> str:
    return f'<span class="sub">{text}</span>' if text else ""


def _sparkline(name: str, minutes: Sequence[Minute]) -> str:
    most = max((minute.hits + minute.misses for minute in minutes), default=0)
    room, bars = _HEIGHT - 2, []
    for place, (hits, misses) in enumerate(minutes):
        if hits or misses:
            # What happened once beside thousands is seen all the same.
            low = max(1.0, room * misses / most) if misses else 0.0
            high = max(1.0, room * hits / most) if hits else 0.0
            x, top = place * _BAR, room - low
            bars.append(f'<rect class="misses" x="{x}" y="{top:.1f}" width="2" height="{low:.1f}"/>' if low else "")
            bars.append(
                f'<rect class="hits" x="{x}" y="{max(0.0, top - high):.1f}" width="2" height="{high:.1f}"/>'
                if high
                else ""
            )
    width = MINUTES * _BAR
    label = f"{name}, the last {MINUTES} minutes: at most {count(most)} calls a minute"
    axis = f'<rect class="axis" x="0" y="{_HEIGHT - 1}" width="{width}" height="1"/>'
    return (
        f'<svg viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(label)}">{axis}{"".join(bars)}</svg>'
        + _sub(f"at most {count(most)} a minute" if most else "no calls")
    )


def _sessions(facts: Facts) -> str:
    heads = [("Type", ""), ("Loaded", "number"), ("Saved", "number"), ("Merged", "number"), ("Ended", "number")]
    rows = [
        [
            _Cell(escape(one.type)),
            *_numbers((name, count(getattr(one, name.lower()))) for name in ("Loaded", "Saved", "Merged", "Ended")),
        ]
        for one in facts.snapshot.sessions
    ]
    return _section("sessions", "Sessions", _table(heads, rows) if rows else _hint("No session was loaded or saved."))


def _keys(keys: Sequence[KeyRow]) -> str:
    if not keys:
        return _section("keys", "Keys", _hint("Sessions have no key here."))
    heads = [("Key", ""), ("Does", ""), ("Here for", "number"), ("Cookies read", "number")]
    rows = [
        [
            _Cell(f"<code>{escape(key.id)}</code>"),
            _Cell("seals and opens" if key.seals else "opens", "Does"),
            *_numbers([("Here for", duration(key.seconds)), ("Cookies read", count(key.tokens))]),
        ]
        for key in keys
    ]
    hint = _hint("Public ids, newest first. A key has no date: the time is how long this process has had it.")
    return _section("keys", "Keys", _table(heads, rows) + hint)


def _stores(facts: Facts, token: str) -> str:
    purge = _form(token, "purge", "Purge expired records") if facts.may_purge else ""
    if not facts.snapshot.stores:
        return _section("stores", "Stores", _hint("No store was asked."), purge)
    names = ["Reads", "Writes", "Deletes", "Read", "Written"]
    heads = [("Backend", ""), *((name, "number") for name in (*names, "Time", "Errors"))]
    heads += [("Cost a day", "number")] * bool(facts.costs)
    rows = []
    for one in facts.snapshot.stores:
        cost = facts.costs.get(one.backend)
        numbers = [count(one.reads), count(one.writes) + _sub(f"{count(one.refused)} refused" if one.refused else "")]
        numbers += [count(one.deletes), size(one.bytes_read), size(one.bytes_written)]
        told = list(zip(names, numbers, strict=True))
        told.append(("Time", f"{seconds(one.seconds / one.calls)} a call" if one.calls else "–"))
        told.append(("Errors", count(one.errors) if one.calls else "–"))
        if facts.costs:
            told.append(("Cost a day", "no price" if cost is None else f"{cost.total:,.4f}"))
        rows.append([_Cell(escape(one.backend)), *_numbers(told)])
    circuits = [
        f"<li>{escape(state.backend)} {escape(state.place)}: {escape(state.state)}, {count(state.failures)} failures"
        " in a row</li>"
        for state in facts.circuits
        if state.state != "closed"
    ]
    open_ones = f'<h3>Circuits that are not closed</h3><ul class="names">{"".join(circuits)}</ul>' if circuits else ""
    hint = (
        _hint("Costs are those of this instance, scaled to a day, by your prices. Storage is not in them.")
        if facts.costs
        else _hint("Without a price list there are no costs: BEAKER_CONSOLE_PRICES names a file.")
    )
    return _section("stores", "Stores", _table(heads, rows) + open_ones + hint, purge)


def _findings(report: Report) -> str:
    order = ("error", "warning", "note")
    items = "".join(
        f'<li><p><span class="badge {finding.severity}">{finding.severity}</span>'
        f"<code>{escape(finding.code)}</code></p><p>{escape(finding.message)}</p><pre>{escape(finding.fix)}</pre></li>"
        for finding in sorted(report.findings, key=lambda finding: order.index(finding.severity))
    )
    body = f'<ul class="findings">{items}</ul>' if items else '<p class="good">Nothing is wrong.</p>'
    return _section("findings", "Findings of the doctor", body)


def _options(report: Report) -> str:
    scopes = [_scope(scope, list(own)) for scope, own in groupby(report.options, key=lambda row: row.scope)]
    return _section("options", "Options in force", "".join(scopes))


def _scope(scope: str, rows: Sequence[OptionRow]) -> str:
    told = [row for row in rows if row.origin != "default"]
    rest = [row for row in rows if row.origin == "default"]
    summary = f'<summary><strong>{escape(scope)}</strong> <span class="soft">{len(told)} set</span></summary>'
    body = _rows(told) if told else ""
    if rest:
        body += f"<details><summary>{len(rest)} with their defaults</summary>{_rows(rest)}</details>"
    return f"<details>{summary}{body}</details>"


def _rows(rows: Sequence[OptionRow]) -> str:
    cells = [
        [
            _Cell(f"<code>{escape(row.option)}</code>"),
            _Cell(f"<code>{escape(row.value)}</code>", "Value"),
            _Cell(escape(row.origin) + _sub(escape(row.reason)), "From"),
        ]
        for row in rows
    ]
    return _table([("Option", ""), ("Value", ""), ("From", "")], cells, "options")


def _events(facts: Facts) -> str:
    if not facts.snapshot.events:
        return ""
    rows = [
        [_Cell(f"<code>{escape(name)}</code>"), _Cell(count(number), "Times", "number")]
        for name, number in facts.snapshot.events.items()
    ]
    body = _table([("Event", ""), ("Times", "number")], rows, "options")
    return _section("events", "Events", f"<details><summary>{len(rows)} kinds</summary>{body}</details>")
