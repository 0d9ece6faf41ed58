"""Writes sessions with whatever Beaker it is run beside. Runs on Python 2.7 as well as 3: see generate.py.

``python writer.py DIRECTORY MEMCACHED REDIS < plans.json > vectors.json``; the tests import the values.
"""

import base64
import datetime
import decimal
import json
import os
import sys
import uuid
import zlib

SECRET = "old-secret-for-tests"
VALIDATE_KEY = "old-validate-key-for-tests"
ENCRYPT_KEY = "old-encrypt-key-for-tests"
COOKIE = "old.session"


def plain_values():  # type: () -> dict
    """What both serializers can hold."""
    return {
        "text": "some text",
        "unicode": b"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\xb0".decode("utf-8"),
        "int": 42,
        "negative": -7,
        "long": 2**70,
        "float": 2.5,
        "yes": True,
        "no": False,
        "none": None,
        "list": [1, "two", [3.0, None]],
        "dict": {"a": {"b": [True]}, "empty": {}},
        "user": "sys-user-17",
    }


def rich_values():  # type: () -> dict
    """What pickle can hold beyond that and the reader takes."""
    return dict(
        plain_values(),
        tuple=(1, ("nested", None)),
        set={1, 2, 3},
        frozenset=frozenset(["x"]),
        bytes=b"\x00\xff\xfe raw",
        datetime=datetime.datetime(2024, 2, 29, 23, 59, 58, 999999),
        date=datetime.date(1999, 12, 31),
        time=datetime.time(6, 30),
        timedelta=datetime.timedelta(days=-1, seconds=5, microseconds=7),
        decimal=decimal.Decimal("19.90"),
        uuid=uuid.UUID("12345678-1234-5678-1234-567812345678"),
        by_number={1: "one", 2: ("t",)},
    )


def _write(plan, options, number):  # type: (dict, dict, int) -> str
    """The value of the cookie that real Beaker sets."""
    from beaker.middleware import SessionMiddleware

    values = plain_values() if plan["serializer"] == "json" else rich_values()
    values["number"] = number

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        session = environ["beaker.session"]
        session.update(values)
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    answered = []  # type: list

    def start_response(status, headers, exc_info=None):  # type: ignore[no-untyped-def]
        answered.extend(value for name, value in headers if name.lower() == "set-cookie")

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": "", "wsgi.url_scheme": "http"}
    list(SessionMiddleware(app, dict(options))(environ, start_response))
    name, _, rest = answered[-1].strip().partition("=")
    assert name == COOKIE, name
    return rest.partition(";")[0].strip('"')


def _options(plan, directory, memcached, redis):  # type: (dict, str, str, str) -> dict
    options = {"session.type": plan["type"], "session.key": COOKIE}
    if plan["serializer"] == "json":
        options["session.data_serializer"] = "json"
    if plan["type"] == "cookie" or plan.get("crypto"):
        options["session.validate_key"] = VALIDATE_KEY
    if plan.get("crypto"):
        options["session.encrypt_key"] = ENCRYPT_KEY
        if plan.get("crypto_type"):
            options["session.crypto_type"] = plan["crypto_type"]
    if plan.get("nonce") and plan["nonce"] != 128:
        options["session.encrypt_nonce_bits"] = plan["nonce"]
    if plan["type"] != "cookie":
        if not plan.get("unsigned"):
            options["session.secret"] = SECRET
        options["session.data_dir"] = directory
    if plan["type"] == "ext:database":
        options["session.url"] = "sqlite:///" + os.path.join(directory, "old.db")
    if plan["type"] == "ext:memcached":
        options["session.url"] = memcached
        options["session.memcache_module"] = plan.get("client", "memcache")
    if plan["type"] == "ext:redis":
        options["session.url"] = "redis://" + redis + "/0"
    if plan["type"] == "dbm":
        # The one kind of dbm that every Python can read.
        try:
            import dbm.dumb as dumb
        except ImportError:
            import dumbdbm as dumb  # type: ignore[import-not-found,no-redef]
        options["session.dbmmodule"] = dumb
    return options


def _packed(data):  # type: (bytes) -> str
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _files(directory):  # type: (str) -> dict
    found = {}
    for at, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(at, name)
            if "_lock" not in path:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, directory)] = _packed(file.read())
    return found


def _memcached_entries(address, id):  # type: (str, str) -> dict
    """The bytes as the server has them, whatever the client's flags say of them."""
    import socket

    host, _, port = address.partition(":")
    key = id + "_session"
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"get " + key.encode("ascii") + b"\r\n")
    answer = b""
    while not answer.endswith(b"END\r\n"):
        answer += connection.recv(65536)
    connection.close()
    line, _, rest = answer.partition(b"\r\n")
    data = rest[: int(line.split()[3])]
    assert len(rest) == len(data) + len(b"\r\nEND\r\n")
    return {key: _packed(data)}


def _redis_entries(address):  # type: (str) -> dict
    # The releases the old versions are run with have other types than the one of our own environment.
    client = __import__("redis").StrictRedis.from_url("redis://" + address + "/0")
    found = {key.decode("ascii"): _packed(client.get(key)) for key in client.keys("beaker_cache:*")}
    client.flushdb()
    return found


def main():  # type: () -> None
    directory, memcached, redis = sys.argv[1:]
    vectors = []
    for number, plan in enumerate(json.load(sys.stdin)):
        own = os.path.join(directory, str(number))
        os.makedirs(own)
        vector = dict(plan, number=number, python=".".join(map(str, sys.version_info[:3])))
        vector["cookie"] = _write(plan, _options(plan, own, memcached, redis), number)
        if plan["type"] in ("file", "dbm", "ext:database"):
            vector["files"] = _files(own)
        elif plan["type"] == "ext:memcached":
            vector["entries"] = _memcached_entries(memcached, vector["cookie"][40:])
        elif plan["type"] == "ext:redis":
            vector["entries"] = _redis_entries(redis)
        vectors.append(vector)
    json.dump(vectors, sys.stdout)


if __name__ == "__main__":
    main()
