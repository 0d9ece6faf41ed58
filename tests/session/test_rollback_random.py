"""Copies of one hybrid session's cookies in any order: none shows what was before the last stay in the store."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from beaker.session.records import TOMBSTONE_TTL
from beaker.testing.clock import FakeClock
from tests.session.places import opened

STEPS = st.lists(
    st.one_of(
        st.sampled_from(["put", "grow", "shrink", "keep", "count", "wait", "settle", "regenerate"]),
        st.tuples(st.sampled_from(["read", "write", "count copy"]), st.integers(0, 9)),
    ),
    max_size=25,
)


def write(session: Any) -> None:
    if not session.is_new:
        session["other"] = session.get("other", 0) + 1
        session.save()


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(STEPS)
@hypothesis.example(["put", "keep", "grow", "shrink", "put", "settle", "keep", "put", "grow"])
@hypothesis.example(["put", "keep", "put", ("count copy", 1), "put", "regenerate", ("count copy", 1)])
@hypothesis.example(["put", "keep", "grow", "shrink", "put", ("count copy", 1), ("write", 1)])
def test_no_copy_goes_back_behind_the_store(steps: list[Any]) -> None:
    """Nor does a number, in whichever copy it is counted; the browser that follows every response loses nothing."""
    directory, clock = Path(tempfile.mkdtemp(prefix="beaker-rollback-")), FakeClock()
    try:
        _run(steps, directory, clock)
    finally:
        shutil.rmtree(directory)


def _run(steps: list[Any], directory: Path, clock: FakeClock) -> None:
    tab = opened("hybrid in cookie", directory, clock=clock, timeout=1e6)
    version, floor, number, big, copies = 0, 0, 0, False, [dict(tab.cookies)]

    def save(**values: Any) -> None:
        def act(session: Any) -> None:
            assert session.get("version", 0) == version - 1
            session["version"] = version
            session.update(values)
            if "big" in values and values["big"] is None:
                del session["big"]
            session.save()

        tab.do(act)

    for step in [*steps, *(("read", at) for at in range(10))]:
        if isinstance(step, str):
            if step in ("put", "grow", "shrink"):
                version += 1
                was, big = big, step == "grow" or (big and step != "shrink")
                # Each save while it is large is of the store's, and so is what moves it there.
                save(**({} if step == "put" else {"big": "x" * 6000 if big else None}))
                if big or was:
                    floor = version
            elif step == "keep":
                copies.append(dict(tab.cookies))
            elif step == "count" and version:
                number += 1
                assert tab.do(lambda s: s.monotonic("n", 1)) == number
                floor = version
            elif step == "regenerate":
                tab.do(lambda s: s.regenerate_id())
            else:
                clock.advance(61 if step == "wait" else TOMBSTONE_TTL + 1)
            continue
        what, at = step
        copy = tab.copy()
        copy.cookies = dict(copies[at % len(copies)])
        if what == "count copy":
            if copy.do(lambda s: s.is_new):
                continue
            number += 1
            assert copy.do(lambda s: s.monotonic("n", 1)) == number
            # A copy of since then, which no move has outdated, may have taken its own state to the store.
            version, big = tab.do(lambda s: (s.get("version", 0), "big" in s))
            assert version >= floor
            floor = version
            continue
        if what == "write":
            copy.do(write)
        seen = copy.do(lambda s: None if s.is_new else (s.get("version", 0), s.monotonic("n")))
        assert seen is None or (seen[0] >= floor and seen[1] == number)
    assert tab.do(lambda s: s.get("version", 0)) == version
