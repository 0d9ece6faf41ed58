"""Builds corpus.json: sessions written by real Beakers, each in a directory of packages of its own.

``python -m tests.legacy.generate [VERSION ...]`` needs pip, memcached, redis-server and the Pythons of ENVIRONMENTS
(pyenv's are found). Versions that are not named keep the vectors they have. All keys are test constants.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.servers import Server

CORPUS = Path(__file__).with_name("corpus.json")
WRITER = Path(__file__).with_name("writer.py")

ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "1.5.4": ("2.7", ("python-memcached==1.59", "SQLAlchemy==1.3.24")),
    "1.6.4": ("2.7", ("python-memcached==1.59", "SQLAlchemy==1.3.24", "pycryptodome==3.9.9")),
    "1.8.1": ("2.7", ("python-memcached==1.59", "SQLAlchemy==1.3.24", "pycryptodome==3.9.9", "funcsigs==1.0.2")),
    "1.11.0": (
        "2.7",
        ("python-memcached==1.59", "SQLAlchemy==1.3.24", "pycryptodome==3.9.9", "cryptography==2.9.2", "redis==3.5.3"),
    ),
    "1.13.0": (
        "3.8",
        (
            "python-memcached==1.62",
            "SQLAlchemy==1.4.54",
            "pycryptodome==3.20.0",
            "cryptography==42.0.8",
            "redis==5.0.8",
        ),
    ),
    "1.14.1": (
        "3.11",
        (
            "python-memcached==1.62",
            "python-binary-memcached==0.31.4",
            "SQLAlchemy==2.0.36",
            "pycryptodome==3.21.0",
            "cryptography==44.0.0",
            "redis==5.2.1",
        ),
    ),
}
"""Version of Beaker: the Python it is run on, and what it is run with."""
SERIALIZERS = ("pickle", "json")


def _plans(version: str) -> list[dict[str, Any]]:
    release = tuple(map(int, version.split(".")))
    serializers = SERIALIZERS if release >= (1, 8) else ("pickle",)
    if release >= (1, 11):
        # With one of these packages only, or with crypto_type, a deployment used the one or the other.
        crypto = [("gcm", "cryptography"), ("ctr", "pycryptodome" if release >= (1, 14) else "pycrypto")]
    else:
        # Before 1.6.4 it was ECB, which nothing reads any more.
        crypto = [("ctr", "")] if release >= (1, 6, 4) else []
    nonces = (128, 48) if release >= (1, 8) else (48,)
    servers = ["file", "dbm", "ext:database", "ext:memcached"] + ["ext:redis"] * (release >= (1, 11))
    encrypted = [{"crypto": mode, "crypto_type": package, "nonce": bits} for mode, package in crypto for bits in nonces]
    plans: list[dict[str, Any]] = []
    for serializer in serializers:
        base = {"beaker": version, "serializer": serializer}
        plans += [{**base, "type": "cookie", **more} for more in [{}, *encrypted]]
        plans += [{**base, "type": type} for type in servers]
        plans += [{**base, "type": "file", **more} for more in encrypted[:: len(nonces)]]
    plans.append({"beaker": version, "serializer": "pickle", "type": "file", "unsigned": True})
    if version == "1.14.1":
        plans += [
            {"beaker": version, "serializer": serializer, "type": "ext:memcached", "client": "bmemcached"}
            for serializer in serializers
        ]
    return plans


def _python(release: str) -> str:
    pyenv = Path.home() / ".pyenv" / "versions"
    found = sorted(pyenv.glob(f"{release}.*/bin/python"))
    command = str(found[-1]) if found else shutil.which(f"python{release}")
    if command is None:
        raise SystemExit(f"needs Python {release}")
    return command


def _vectors(version: str, directory: Path, memcached: str, redis: str) -> list[dict[str, Any]]:
    release, packages = ENVIRONMENTS[version]
    python, site = _python(release), directory / "site"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, f"Beaker=={version}", *packages], check=True)
    made = subprocess.run(
        [python, str(WRITER), str(directory / "data"), memcached, redis],
        input=json.dumps(_plans(version)).encode(),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=directory,
        check=True,
    )
    vectors: list[dict[str, Any]] = json.loads(made.stdout)
    return vectors


def main(versions: list[str]) -> None:
    kept: dict[str, Any] = json.loads(CORPUS.read_text()) if CORPUS.exists() else {"vectors": []}
    vectors = [vector for vector in kept["vectors"] if vector["beaker"] not in versions]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    memcached = Server("memcached", lambda port: ["memcached", *user, "-l", Server.host, "-p", str(port), "-U", "0"])
    redis = Server("redis", lambda port: ["redis-server", "--bind", Server.host, "--port", str(port), "--save", ""])
    try:
        for version in versions:
            with tempfile.TemporaryDirectory() as directory:
                vectors += _vectors(version, Path(directory), memcached.address, redis.address)
            print(version, sum(vector["beaker"] == version for vector in vectors), "vectors")
    finally:
        memcached.close()
        redis.close()
    vectors.sort(key=lambda vector: (tuple(map(int, vector["beaker"].split("."))), vector["number"]))
    lines = ",\n".join(json.dumps(vector, sort_keys=True) for vector in vectors)
    CORPUS.write_text(f'{{"made": {time.time()}, "vectors": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENVIRONMENTS))
