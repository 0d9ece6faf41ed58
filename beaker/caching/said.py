"""What a function may say in place of a value or a time."""

from __future__ import annotations

import enum
from typing import Final, Literal, NoReturn, cast

__all__ = ["DO_NOT_KEEP", "NOT_MODIFIED", "DoNotKeep", "Said"]


class Said(enum.Enum):
    """The type of :data:`DO_NOT_KEEP` and :data:`NOT_MODIFIED`, which no cache keeps."""

    DO_NOT_KEEP = "DO_NOT_KEEP"
    NOT_MODIFIED = "NOT_MODIFIED"

    def __repr__(self) -> str:
        return f"beaker.cache.{self.name}"


DoNotKeep = Literal[Said.DO_NOT_KEEP]

DO_NOT_KEEP: Final = Said.DO_NOT_KEEP
"""What a callable ``expire`` returns for a value that is returned and not stored."""

# Of every type, so that a creation function may return it in place of what it is annotated with: a strict checker
# does not let it return Any.
NOT_MODIFIED: Final[NoReturn] = cast(NoReturn, Said.NOT_MODIFIED)
"""What a creation function returns in place of the old value, which is then valid anew; see :func:`previous`."""
