"""A line on a terminal that says how far a run is. Elsewhere one line a step."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """``[#####.....] 12/60 file put, 1,000 keys, 3:20 left``, the time by what the steps before took."""

    WIDTH = 24

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total, self._done = max(1, total), 0
        self._stream, self._started = stream, time.monotonic()

    def step(self, name: str) -> None:
        """Show that ``name`` begins, and that the step before is done."""
        filled = self.WIDTH * self._done // self._total
        bar = "#" * filled + "." * (self.WIDTH - filled)
        text = f"[{bar}] {self._done + 1}/{self._total} {name}{self._left()}"
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{text[:120]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
        self._done += 1

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = int((time.monotonic() - self._started) / self._done * (self._total - self._done))
        return f", {seconds // 60}:{seconds % 60:02} left"

    def close(self) -> None:
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()
