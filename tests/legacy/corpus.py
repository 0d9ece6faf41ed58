"""What real Beakers wrote (corpus.json), put back where they had it, with the options that read it."""

from __future__ import annotations

import base64
import datetime as dt
import json
import zlib
from pathlib import Path
from typing import Any

from tests.legacy.writer import COOKIE, ENCRYPT_KEY, SECRET, VALIDATE_KEY, plain_values, rich_values

__all__ = [
    "COOKIE",
    "LOCAL",
    "MADE",
    "REMOTE",
    "VECTORS",
    "Vector",
    "cookie_of",
    "expected",
    "label",
    "pick",
    "policy_of",
    "restore",
    "unpacked",
    "until",
]

Vector = dict[str, Any]

_corpus: dict[str, Any] = json.loads(Path(__file__).with_name("corpus.json").read_text())
VECTORS: list[Vector] = _corpus["vectors"]
MADE: float = _corpus["made"]
"""When the corpus was written, in seconds since the epoch: after every stamp in it, by minutes at most."""
REMOTE = [vector for vector in VECTORS if vector["type"] in ("ext:memcached", "ext:redis")]
LOCAL = [vector for vector in VECTORS if vector not in REMOTE]


def label(vector: Vector) -> str:
    """A name for pytest's list."""
    words = (vector[name] for name in ("beaker", "type", "serializer", "crypto", "nonce", "client") if name in vector)
    return "-".join(map(str, words)) + ("-unsigned" if vector.get("unsigned") else "")


def pick(**wanted: Any) -> Vector:
    """The newest vector with these properties; ``None`` stands for one that is absent."""
    return [vector for vector in VECTORS if all(vector.get(name) == value for name, value in wanted.items())][-1]


def expected(vector: Vector) -> dict[str, Any]:
    """The application's values in it."""
    values = plain_values() if vector["serializer"] == "json" else rich_values()
    return {**values, "number": vector["number"]}


def until(days: float = 30) -> str:
    """The moment so many days after the corpus was written."""
    return dt.datetime.fromtimestamp(MADE + days * 86400, dt.timezone.utc).isoformat()


def unpacked(packed: str) -> bytes:
    return zlib.decompress(base64.b64decode(packed))


def cookie_of(vector: Vector) -> str:
    """The Cookie header of a browser that has the old cookie."""
    return f"{COOKIE}={vector['cookie']}"


def restore(vector: Vector, directory: Path, url: str = "") -> None:
    """Put the old record where it was: under ``directory``, or in the server at ``url``."""
    for name, packed in vector.get("files", {}).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(unpacked(packed))
    for key, packed in vector.get("entries", {}).items():
        client = _client(vector["type"], url)
        client.set(key, unpacked(packed))
        client.close()


def remains(vector: Vector, directory: Path, url: str = "") -> bool:
    """Whether the old record is still there."""
    if vector["type"] == "ext:database":
        import sqlite3

        connection = sqlite3.connect(directory / "old.db")
        found = connection.execute("select count(*) from beaker_cache").fetchone()[0]
        connection.close()
        return bool(found)
    if "entries" in vector:
        client = _client(vector["type"], url)
        found = [key for key in vector["entries"] if client.get(key) is not None]
        client.close()
        return bool(found)
    return any((directory / name).exists() for name in vector.get("files", {}))


def _client(type: str, url: str) -> Any:
    if type == "ext:redis":
        import redis

        return redis.Redis.from_url(url)
    from pymemcache.client.base import Client

    return Client(url, default_noreply=False)


def policy_of(vector: Vector, directory: Path, url: str = "", **more: Any) -> dict[str, Any]:
    """The option ``legacy`` that reads it."""
    policy: dict[str, Any] = {"until": until(), "key": COOKIE, "type": vector["type"]}
    if vector.get("unsigned"):
        policy["unsigned"] = True
    elif vector["type"] != "cookie":
        policy["secret"] = SECRET
    if vector["type"] == "cookie" or "crypto" in vector:
        policy["validate_key"] = VALIDATE_KEY
    if "crypto" in vector:
        policy["encrypt_key"] = ENCRYPT_KEY
    if vector["type"] in ("file", "dbm"):
        policy["data_dir"] = str(directory)
    elif vector["type"] != "cookie":
        policy["url"] = url or f"sqlite:///{directory}/old.db"
    return {**policy, **more}
