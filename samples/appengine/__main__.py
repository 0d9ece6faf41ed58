"""`python -m samples.appengine PORT`: the sample on the standard library's server, one request at a time."""

from __future__ import annotations

import sys
from wsgiref.simple_server import make_server

from .main import app

with make_server("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080, app) as server:
    server.serve_forever()
