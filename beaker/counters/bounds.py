"""The classes into which creations are sorted by their length."""

from __future__ import annotations

__all__ = ["BOUNDS"]

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds; one more class is for longer ones."""
