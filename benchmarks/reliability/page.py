"""The figures of a run as Markdown, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from benchmarks.reliability.faults import ALL, SCENARIOS
from benchmarks.reliability.oracle import Verdict

TITLES = [
    "store", "acknowledged", "failed", "indeterminate", "reads", "lost", "foreign", "3/N", "forgotten", "damaged",
    "late", "hung", "worst recovery s", "worst p99 ms",
]  # fmt: skip
Figures = dict[str, dict[str, dict[str, Any]]]
"""By Beaker, by store, by scenario: a verdict's fields, or what ``failed``."""


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Without the single times, of which the 99th percentile is kept."""
    kept = {field.name: getattr(verdict, field.name) for field in dataclasses.fields(verdict) if field.name != "took"}
    return {**kept, "p99": verdict.p99()}


def cells(name: str, outcomes: Iterable[dict[str, Any]]) -> list[str]:
    """One line of a table: the outcomes that ran, added up."""
    ran = [outcome for outcome in outcomes if "failed to run" not in outcome]
    if not ran:
        return [name, *["–"] * (len(TITLES) - 1)]

    def total(field: str) -> int:
        return sum(outcome[field] for outcome in ran)

    counted = total("acknowledged") + total("reads")
    bound = f"{3 / counted:.1g}" if counted else "–"
    shown = [f"{total(field):,}" for field in ("acknowledged", "failed", "indeterminate", "reads", "lost", "foreign")]
    shown += [bound, *(f"{total(field):,}" for field in ("forgotten", "damaged", "late", "hung"))]
    recovery, p99 = max(o["recovery"] for o in ran), max(o["p99"] for o in ran)
    return [name, *shown, f"{recovery:.1f}", f"{p99 * 1000:.0f}"]


def table(rows: Iterable[list[str]], titles: list[str] = TITLES) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(about: dict[str, str], figures: Figures, untested: list[str]) -> str:
    """The generated part of docs/reliability.md."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in about.items())]
    figures = {beaker: {kind: stores[kind] for kind in ALL if kind in stores} for beaker, stores in figures.items()}
    ours = figures.get("ours", {})
    soaks = {kind: outcomes["soak"] for kind, outcomes in ours.items() if "soak" in outcomes}
    figures = {beaker: _without_soaks(stores) for beaker, stores in figures.items()}
    for beaker, stores in figures.items():
        if stores:
            title = "This Beaker" if beaker == "ours" else f"Beaker {beaker}"
            parts.append(f"**{title}**, by store:")
            parts.append(table(cells(kind, outcomes.values()) for kind, outcomes in stores.items()))
    if soaks:
        parts.append("**This Beaker**, soak of 8 processes of 4 threads on 1,000 sessions:")
        parts.append(table(cells(kind, [outcome]) for kind, outcome in soaks.items()))
    for beaker, stores in figures.items():
        if not stores:
            continue
        title = "This Beaker" if beaker == "ours" else f"Beaker {beaker}"
        parts.append(f"**{title}**, lost / foreign by scenario (– where it does not apply or could not run):")
        parts.append(_by_scenario(stores))
    evidence = [
        f"- {kind}, {name}: {line}"
        for kind, outcomes in ours.items()
        for name, outcome in outcomes.items()
        for line in outcome.get("evidence", ())[:3]
    ]
    if evidence:
        parts += ["What was lost or foreign in this Beaker:", "\n".join(evidence)]
    parts += ["Not tested in this run:", "\n".join(f"- {line}" for line in [*untested, *_not_run(figures)])]
    return "\n\n".join(parts)


def _without_soaks(stores: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    kept = {
        kind: {name: outcome for name, outcome in outcomes.items() if name != "soak"}
        for kind, outcomes in stores.items()
    }
    return {kind: outcomes for kind, outcomes in kept.items() if outcomes}


def _not_run(figures: Figures) -> list[str]:
    """By scenario of this Beaker, the stores that it concerns and has no figures of."""
    ours = figures.get("ours", {})
    found = []
    for scenario in SCENARIOS:
        missing = [kind for kind in scenario.stores if "acknowledged" not in ours.get(kind, {}).get(scenario.name, {})]
        if missing:
            found.append(f"{scenario.name} on {', '.join(missing)}")
    return found


def _by_scenario(stores: dict[str, dict[str, dict[str, Any]]]) -> str:
    kinds = [kind for kind in ALL if kind in stores]
    rows = []
    for scenario in SCENARIOS:
        outcomes = [stores[kind].get(scenario.name) for kind in kinds]
        if any(outcome is not None for outcome in outcomes):
            rows.append([scenario.name, *map(_lost, outcomes)])
    return table(rows, ["scenario", *kinds])


def _lost(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "–"
    if "failed to run" in outcome:
        return "could not run"
    hung = f", {outcome['hung']} hung" if outcome["hung"] else ""
    return f"{outcome['lost']} / {outcome['foreign']} of {outcome['acknowledged'] + outcome['reads']:,}{hung}"
