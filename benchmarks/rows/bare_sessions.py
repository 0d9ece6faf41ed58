"""The floors of requests: the least that a session needs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from typing import Any

from benchmarks.client import Client, untouched
from benchmarks.row import FLOOR, SECRET, Builder, Call, Place, Store


def builders(kind: str, way: str) -> dict[str, Builder]:
    """The floor's builder, where there is one that says something."""
    if way == "untouched":
        return {FLOOR: nothing}
    made = {"signed": signed, "encrypted": encrypted, "file": files, "ext:memcached": cas, "ext:redis": redis}
    made["ext:database"] = core
    return {FLOOR: lambda place: made[kind](place, way == "write")} if kind in made else {}


def nothing(place: Place) -> Call:
    return Client(untouched)


def counted(data: dict[str, Any]) -> dict[str, Any]:
    data["visits"] += 1
    return data


def _first(place: Place) -> dict[str, Any]:
    return {"visits": 1, **place.value}


def signed(place: Place, write: bool) -> Call:
    key = SECRET.encode()

    def seal(data: dict[str, Any]) -> bytes:
        text = json.dumps(data).encode()
        return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256) + text)

    cookie = seal(_first(place))

    def call() -> object:
        raw = base64.urlsafe_b64decode(cookie)
        assert hmac.compare_digest(raw[:32], hmac.digest(key, raw[32:], hashlib.sha256))
        data = json.loads(raw[32:])
        return seal(counted(data)) if write else data

    return call


def encrypted(place: Place, write: bool) -> Call:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(hashlib.sha256(SECRET.encode()).digest())

    def seal(data: dict[str, Any]) -> bytes:
        nonce = os.urandom(12)
        return base64.urlsafe_b64encode(nonce + cipher.encrypt(nonce, json.dumps(data).encode(), b"session"))

    cookie = seal(_first(place))

    def call() -> object:
        raw = base64.urlsafe_b64decode(cookie)
        data = json.loads(cipher.decrypt(raw[:12], raw[12:], b"session"))
        return seal(counted(data)) if write else data

    return call


def over(store: Store, place: Place, write: bool) -> Call:
    """A read, and a write of the whole record after it, as JSON."""
    get, put = store
    put("session", json.dumps(_first(place)).encode())

    def call() -> None:
        data = json.loads(get("session"))
        if write:
            put("session", json.dumps(counted(data)).encode())

    return call


def files(place: Place, write: bool) -> Call:
    path = f"{place.directory}/session"

    def get(key: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def put(key: str, data: bytes) -> None:
        with open(f"{path}.new", "wb") as file:
            file.write(data)
        os.replace(f"{path}.new", path)

    return over((get, put), place, write)


def cas(place: Place, write: bool) -> Call:
    from pymemcache import Client

    host, port = place.services["memcached"].split(":")
    client = Client((host, int(port)), no_delay=True, default_noreply=False, key_prefix=place.unique.encode())
    client.set("session", json.dumps(_first(place)).encode())

    def call() -> None:
        found, version = client.gets("session")
        data = json.loads(found)
        if write:
            client.cas("session", json.dumps(counted(data)).encode(), version)

    return call


def redis(place: Place, write: bool) -> Call:
    from redis import Redis

    client = Redis.from_url(place.services["redis"])
    name = place.unique
    return over((lambda key: client.get(name), lambda key, data: client.set(name, data, ex=3600)), place, write)


def core(place: Place, write: bool) -> Call:
    from benchmarks.rows.sql import bare_core

    get, put = bare_core(place)
    return over((get, put), place, write)
