"""What an exception from outside does to data behind a mutex: half a change, unless it is mended."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from beaker.exceptions import BeakerException

__all__ = ["Mending"]


class Mending:
    """Entered after a mutex (``with mutex, mending:``): ``mend`` is called when the block ends by an exception from
    outside, such as a signal handler's, before the mutex is released. Errors of Beaker's own are raised where the data
    is whole."""

    def __init__(self, mend: Callable[[], object]) -> None:
        self._mend = mend

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, BeakerException):
            self._mend()
