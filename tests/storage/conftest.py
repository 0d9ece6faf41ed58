"""The contract's children start in milliseconds here."""

from __future__ import annotations

from beaker.testing import ProcessContract
from tests.processes import CONTEXT

ProcessContract.start_method = CONTEXT.get_start_method()
