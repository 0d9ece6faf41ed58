"""Programs that bring managers of their own by beaker.cache.clsmap, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

MANAGER = """
import pickle
import beaker, beaker.cache
from beaker.cache import CacheManager, clsmap, _backends
from beaker.container import Container, NamespaceManager
from beaker.synchronization import file_synchronizer
from beaker.util import verify_directory

SERVER = {}


class NoSqlManager(NamespaceManager):
    def __init__(self, namespace, url=None, data_dir=None, lock_dir=None, **params):
        NamespaceManager.__init__(self, namespace)
        self.lock_dir = lock_dir
        if self.lock_dir:
            verify_directory(self.lock_dir)

    def get_creation_lock(self, key):
        return file_synchronizer(identifier="container/funclock/%s" % self.namespace, lock_dir=self.lock_dir)

    def _name(self, key):
        return "beaker:%s:%s" % (self.namespace, key)

    def __getitem__(self, key):
        return pickle.loads(SERVER[self._name(key)])

    def __contains__(self, key):
        return self._name(key) in SERVER

    def has_key(self, key):
        return key in self

    def set_value(self, key, value, expiretime=None):
        SERVER[self._name(key)] = pickle.dumps(value)

    def __setitem__(self, key, value):
        self.set_value(key, value)

    def __delitem__(self, key):
        del SERVER[self._name(key)]

    def do_remove(self):
        for name in [name for name in SERVER if name.startswith("beaker:%s:" % self.namespace)]:
            del SERVER[name]

    def keys(self):
        return list(SERVER)


class NoSqlContainer(Container):
    namespace_class = NoSqlManager
"""
USE = """
from wsgiref.util import setup_testing_defaults
from beaker.middleware import SessionMiddleware

KIND = %r


class Thing:
    pass


cache = CacheManager(type=KIND, url="localhost:1").get_cache("words", type=KIND)
thing = cache.get("a", createfunc=Thing)
assert isinstance(thing, Thing) and isinstance(cache.get("a"), Thing), thing


def app(environ, start_response):
    session = environ["beaker.session"]
    session["n"] = session.get("n", 0) + 1
    session.save()
    start_response("200 OK", [])
    return [b"%%d" %% session["n"]]


def visit(cookie=""):
    environ, sent = {"HTTP_COOKIE": cookie}, []
    setup_testing_defaults(environ)
    body = b"".join(wrapped(environ, lambda status, headers, exc_info=None: sent.extend(headers)))
    return body, dict(sent).get("Set-Cookie", "").partition(";")[0]


wrapped = SessionMiddleware(app, {"session.type": KIND, "session.url": "localhost:1", "session.auto": True})
first, cookie = visit()
second, _ = visit(cookie)
assert (first, second) == (b"1", b"2"), (first, second)
# The value, the session, and the ledger of revocations.
assert len(SERVER) == 3, list(SERVER)
"""
WAYS = {
    "assigned": ('beaker.cache.clsmap["ext:nosql"] = NoSqlManager', "ext:nosql"),
    "over one of Beaker's": ('clsmap["ext:redis"] = NoSqlManager', "ext:redis"),
    "into its inside": ('clsmap._clsmap["redis"] = NoSqlContainer.namespace_class', "redis"),
    "replaced": ('beaker.cache.clsmap = _backends({"nosql": NoSqlManager})', "nosql"),
    "replaced by a dict": ('beaker.cache.clsmap = {"nosql": NoSqlManager}', "nosql"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_manager_of_ones_own(way: str) -> None:
    """Caches and sessions go into the manager that the program has put into clsmap."""
    assign, kind = WAYS[way]
    program = f"{MANAGER}\n{assign}\n{USE % kind}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
