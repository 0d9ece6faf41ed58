"""The rows of the table, a file a subject. Each runs where ``beaker`` is ours, Beaker 1.14.1 or absent."""

from __future__ import annotations

from benchmarks.row import Row
from benchmarks.rows import asgi, datastore, files, imports, memory, pages, servers, sessions, sql

ROWS: tuple[Row, ...] = (
    *memory.ROWS,
    *files.ROWS,
    *servers.ROWS,
    *sql.ROWS,
    *sessions.ROWS,
    *asgi.ROWS,
    *datastore.ROWS,
    *imports.ROWS,
    *pages.ROWS,
)
