"""Tokens and records of every version there ever was, created once and committed: they must open for ever.

When a format changes, add vectors under new names; never edit or drop one of these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

VECTORS: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))
SECRET: Final = bytes(range(32))
OTHER_SECRET: Final = bytes(range(100, 132))
RAW_ID: Final = bytes(range(200, 232))
COOKIE: Final = "beaker.session.id"
SHORT: Final = b'{"user":"ann","n":[1,2,3]}'
LONG: Final = b'{"cart":"' + b"apple " * 60 + b'"}'
CREATED: Final = 1_700_000_000.0
ISSUED: Final = CREATED + 60.5
EXPIRES: Final = CREATED + 3600
