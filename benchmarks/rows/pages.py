"""A Flask page that counts in a session, behind gunicorn (one process, four threads), loaded by wrk."""

from __future__ import annotations

from benchmarks.row import Goal, Row, needs

_WHO = {
    "redis": ("ours", "beaker", "Flask-Session", "floor"),
    "signed": ("ours", "beaker", "Flask", "floor"),
    "file": ("ours", "beaker", "Flask-Session", "floor"),
}
_TITLES = {"redis": "redis", "signed": "signed cookie", "file": "files"}
# Relative to the bare page: it served 2,384 requests a second where 1,300 and 2,000 are wanted.
_GOALS = {"write": Goal(2384 / 1300, "floor"), "read": Goal(2384 / 2000, "floor")}


# Starting four servers a row takes a while.
_QUICK = {("redis", "write"), ("signed", "read")}


def _row(kind: str, way: str) -> Row:
    goal = Goal(1.0, "Flask") if kind == "signed" else _GOALS[way]
    return Row(
        f"Flask page, {_TITLES[kind]}, {way}",
        {},
        needs("wrk", "redis") if kind == "redis" else needs("wrk"),
        (goal,),
        "gunicorn with 1 process of 4 threads, wrk with 4 connections. Floor: the page without a session.",
        unit="requests/s",
        kind="load",
        quick=(kind, way) in _QUICK,
        extra={"who": _WHO[kind], "keeps": kind, "way": way},
    )


ROWS = tuple(_row(kind, way) for kind in ("redis", "signed", "file") for way in ("write", "read"))
