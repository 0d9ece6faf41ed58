"""Exceptions from outside in what one request does for all, once a process or a minute: a later request does it."""

from __future__ import annotations

from typing import Any

import pytest

from beaker.forks import notice_patch
from beaker.runtime import Runtime
from gae.console.history import History
from gae.handlers import Handlers, log
from gae.settings import Tasks
from tests.faults.aborting import Abort, each_line


def test_a_warmup_that_was_aborted_is_done_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the first one is aborted, a second warmup finds the way free."""
    # The handlers of logging have a lock that such an exception leaves shut.
    monkeypatch.setattr(log, "disabled", True)
    done: list[int] = []
    served = [_handlers(done)]
    aborted = 0
    for _ in each_line(lambda: served[-1]._answer_warmup({}), Abort, 1):
        aborted += not served[-1]._is_warm
        served[-1]._answer_warmup({})
        assert served[-1]._is_warm
        served.append(_handlers(done))
    assert aborted > 2
    assert len(done) >= len(served) - 1


def _handlers(done: list[int]) -> Handlers:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return []

    prefetch = [lambda: done.append(1)]
    return Handlers(app, runtime=Runtime(), tasks=Tasks(), stores=list, prefetch=prefetch)


def test_a_sample_that_was_aborted_is_taken_by_the_next() -> None:
    """Wherever a sample of the console's history is aborted, the next request of that minute takes it."""
    notice_patch()
    clock = [0.0]
    history = History(lambda: clock[0])
    aborted = 0
    for _ in each_line(history.note, Abort, 1):
        aborted += history.due <= clock[0]
        history.note()
        assert history.due > clock[0]
        clock[0] += 60
    assert aborted > 2
