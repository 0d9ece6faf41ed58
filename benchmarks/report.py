"""The figures of a run, as Markdown and as JSON."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import title
from benchmarks.measuring import Result
from benchmarks.row import FLOOR, Goal, Row

BEGIN, END = "<!-- figures: {} -->", "<!-- end of figures -->"
TITLES = ["work", "ours", "Beaker 1.14.1", "times faster", "peers", "floor", "ours / floor", "goal"]


@dataclass
class Report:
    """A run: where and when, and its results by row."""

    about: dict[str, str]
    results: dict[str, Result]

    def save(self, path: Path) -> None:
        kept = {"about": self.about, "results": [result.as_json() for result in self.results.values()]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Report:
        """What :meth:`save` kept. ValueError or KeyError when the file is none of these."""
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        results = [Result.from_json(result) for result in kept["results"]]
        return cls(kept["about"], {result.name: result for result in results})


def load_now() -> str:
    """The load of the machine over 1, 5 and 15 minutes."""
    return "/".join(f"{number:.1f}" for number in os.getloadavg())


def about(versions: Mapping[str, str], effort: str, load: str | None = None) -> dict[str, str]:
    """Machine, versions and date of a run; ``load`` as it was when that started, by default now."""
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    date = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "date": date,
        "machine": machine,
        "load at the start (1/5/15 minutes)": load or load_now(),
        "effort": effort,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def processor() -> str:
    """The model of the processor, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def table(rows: Iterable[Row], report: Report) -> str:
    """The rows that have results, as a Markdown table with a note a line below."""
    lines = [TITLES, ["---", *["---:"] * 3, "---", *["---:"] * 2, "---"]]
    notes: dict[str, list[str]] = {}
    for row in rows:
        result = report.results.get(row.name)
        if result is not None:
            lines.append(cells(row, result))
            if row.note:
                notes.setdefault(row.note, []).append(row.name)
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = "\n".join(f"- {'; '.join(names)}: {note}" for note, names in notes.items())
    return f"{text}\n\n{said}" if said else text


def cells(row: Row, result: Result) -> list[str]:
    if result.skipped:
        return [row.name, f"not run: {result.skipped}", *[""] * (len(TITLES) - 2)]
    peers = [name for name in (*result.values, *result.failed) if name not in ("ours", "beaker", FLOOR)]
    faster, above = result.cost_of("beaker", "ours"), result.cost_of("ours", FLOOR)
    return [
        row.name,
        figure(result, "ours", with_unit=True),
        figure(result, "beaker"),
        "–" if faster is None else f"{significant(faster)}",
        ", ".join(f"{name} {figure(result, name)}" for name in peers) or "–",
        figure(result, FLOOR),
        "–" if above is None else f"{significant(above)}",
        "; ".join(verdict(goal, result) for goal in row.goals) or "–",
    ]


def figure(result: Result, name: str, *, with_unit: bool = False) -> str:
    """``1.82 µs ±3 %``; what failed; or a dash."""
    if name in result.failed:
        return "failed"
    middle = result.median(name)
    if middle is None:
        return "–"
    unit = f" {result.unit}" if with_unit else ""
    remark = f", {result.remarks[name]}" if name in result.remarks else ""
    return f"{significant(middle)}{unit} ±{result.spread(name):.0%}{remark}".replace("%", " %")


def significant(number: float) -> str:
    """Three digits that count."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def met(goal: Goal, result: Result) -> bool | None:
    """Whether ours costs no more than the goal allows; ``None`` when one side has no figure."""
    cost = result.cost_of("ours", goal.of)
    return None if cost is None else cost <= goal.at_most


def verdict(goal: Goal, result: Result) -> str:
    """The goal, what was measured, and whether that meets it."""
    if goal.of == "beaker" and goal.at_most <= 1:
        wanted = f"≥ {significant(1 / goal.at_most)} × as fast as {title(goal.of)}"
        cost = result.cost_of("beaker", "ours")
    else:
        wanted = f"≤ {significant(goal.at_most)} × {title(goal.of)}"
        cost = result.cost_of("ours", goal.of)
    if cost is None:
        return f"{wanted}: not measured"
    return f"{wanted}: {significant(cost)}, {'met' if met(goal, result) else '**not met**'}"


def curves(rows: Iterable[Row], report: Report) -> str:
    """The points of growth as a Markdown table: a curve and implementation a line."""
    found: dict[tuple[str, str], dict[int, Result]] = {}
    for row in rows:
        result = report.results.get(row.name)
        if result is not None and not result.skipped:
            found.setdefault((row.axis, row.extra["curve"]), {})[row.extra["at"]] = result
    lines = []
    for axis in dict.fromkeys(axis for axis, _ in found):
        points = sorted({at for (a, _), results in found.items() if a == axis for at in results})
        lines += ["", f"| µs by {axis} | | {' | '.join(f'{at:,}' for at in points)} |"]
        lines += ["|" + " --- |" * 2 + " ---: |" * len(points)]
        for (a, curve), results in found.items():
            for name in ("ours", "beaker", FLOOR) if a == axis else ():
                shown = [results[at].median(name) if at in results else None for at in points]
                if any(value is not None for value in shown):
                    texts = ["–" if value is None else significant(value) for value in shown]
                    lines.append(f"| {curve} | {title(name)} | {' | '.join(texts)} |")
    return "\n".join(lines).strip()


def insert(path: Path, name: str, text: str) -> None:
    """Put the text between the page's marks of that name. ValueError when the page has none."""
    page = path.read_text("utf-8")
    begin = BEGIN.format(name)
    head, found, rest = page.partition(begin)
    _, end, tail = rest.partition(END)
    if not (found and end):
        raise ValueError(f"{path} has no {begin!r} ... {END!r} to put the figures between")
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", "utf-8")


def heading(report: Report) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in report.about.items())
