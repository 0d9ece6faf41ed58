"""Draws the pictures of docs/performance.md. Runs where matplotlib is: ``plot.py FIGURES.json FOLDER``."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib import ticker

COLOURS = {"ours": "#1f6feb", "beaker": "#d1602a", "floor": "#8a8f98"}
TITLES = {"ours": "ours", "beaker": "Beaker 1.14.1", "floor": "floor"}
STYLE = {
    "axes.spines.right": False, "axes.spines.top": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.titlesize": 9, "grid.color": "#e4e6ea", "font.size": 8, "svg.hashsalt": "beaker", "svg.fonttype": "none",
    "legend.frameon": False,
}  # fmt: skip

Result = dict[str, Any]


def costs(result: Result, one: str, other: str) -> float | None:
    """How many times ``one`` costs what ``other`` costs, as measuring.py counts it."""
    first, second = result["values"].get(one), result["values"].get(other)
    if not first or not second:
        return None
    if result["unit"] == "requests/s":
        first, second = second, first
    return float(statistics.median(a / b for a, b in zip(first, second, strict=True)))


def bars(results: list[Result], folder: Path) -> None:
    """Times faster than Beaker 1.14.1, a bar a row, on a logarithmic scale."""
    found = [(result["name"], costs(result, "beaker", "ours")) for result in results]
    shown = [(name, value) for name, value in found if value is not None][::-1]
    if not shown:
        return
    figure, axes = plt.subplots(figsize=(8, 1 + 0.22 * len(shown)))
    values = [value for _, value in shown]
    colours = [COLOURS["ours"] if value >= 1 else COLOURS["beaker"] for value in values]
    axes.barh([name for name, _ in shown], [value - 1 for value in values], left=1, color=colours, height=0.7)
    for place, value in enumerate(values):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
        axes.annotate(text, (value, place), (3 if value >= 1 else -3, 0), textcoords="offset points",
                      ha="left" if value >= 1 else "right", va="center")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 2)
    plain(axes.xaxis)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_title("times as fast as Beaker 1.14.1 (left of 1: slower)")
    axes.grid(axis="y", visible=False)
    save(figure, folder / "performance-beaker.svg")


def curves(results: list[Result], folder: Path) -> None:
    """One picture an axis, a small chart a curve; what one piece of work costs, both scales logarithmic."""
    points: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = {}
    for result in results:
        name = result["name"]
        if name.startswith("growth: "):
            curve, _, at = name.removeprefix("growth: ").rpartition(", ")
            axis, _, number = at.partition(" ")
            for who, values in result["values"].items():
                point = (int(number.replace(",", "")), float(statistics.median(values)))
                points.setdefault(axis, {}).setdefault(curve, {}).setdefault(who, []).append(point)
    for axis, charts in points.items():
        across = min(4, len(charts))
        down = -(-len(charts) // across)
        figure, grid = plt.subplots(down, across, figsize=(2.4 * across, 2.1 * down + 0.4), squeeze=False)
        for axes in grid.flat[len(charts) :]:
            axes.set_visible(False)
        for axes, (curve, lines) in zip(grid.flat, charts.items(), strict=False):
            for who, line in lines.items():
                axes.plot(*zip(*sorted(line), strict=True), marker="o", markersize=3, color=COLOURS[who])
            axes.set_xscale("log", base=2 if axis in ("threads", "processes") else 10)
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            # At least two decades, so that noise does not look like growth.
            wider = max(1.0, 10 / (high / low) ** 0.5)
            axes.set_ylim(low / wider, high * wider)
            plain(axes.xaxis, axes.yaxis)
            axes.set_title(curve.replace("request, session ", ""), fontsize=7.5)
        keys = [plt.Line2D([], [], color=COLOURS[who], marker="o", markersize=3) for who in COLOURS]
        figure.legend(keys, TITLES.values(), loc="lower center", ncols=3)
        figure.supxlabel({"size": "bytes of a session"}.get(axis, axis), y=0.06, fontsize=8)
        figure.supylabel("µs", fontsize=8)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        save(figure, folder / f"performance-{axis}.svg")


def plain(*scales: Any) -> None:
    """Numbers written out, and none between the powers."""
    for scale in scales:
        scale.set_minor_locator(ticker.NullLocator())
        scale.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    print(path, file=sys.stderr)


def main(kept: str, folder: str) -> None:
    results = json.loads(Path(kept).read_text("utf-8"))["results"]
    plt.rcParams.update(STYLE)
    bars([result for result in results if not result["name"].startswith("growth: ")], Path(folder))
    curves(results, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
