"""Names: for functions, for calls of functions, and for records in stores with narrow alphabets.

Every construction here is injective: parts are framed with their lengths before they are joined or
hashed, so ``('a', 'b_c')`` and ``('a_b', 'c')`` never meet.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["digest", "encode_text", "mangle", "namespace_digest", "stripe"]

_RECORD = b"beaker:record:1\0"
_NAMESPACE = b"beaker:namespace:1\0"
_NAME = re.compile(r"[A-Za-z0-9_.:\-]*\Z")
_DIGEST_LENGTH = 2 + 64


def encode_text(text: str) -> bytes:
    """UTF-8 bytes of any ``str``, lone surrogates included; different texts give different bytes."""
    return text.encode("utf-8", "surrogatepass")


def digest(namespace: str, key: str) -> str:
    """64 lower-case hex digits naming the pair; a SHA-256 over the namespace's length, it, and the key."""
    name = namespace.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%b%d:%b%b" % (_RECORD, len(name), name, key.encode("utf-8", "surrogatepass"))).hexdigest()


def namespace_digest(namespace: str) -> str:
    """64 lower-case hex digits naming a namespace; never equal to a :func:`digest` of a pair."""
    return hashlib.sha256(_NAMESPACE + encode_text(namespace)).hexdigest()


def stripe(namespace: str, key: str, count: int = 256) -> int:
    """Which of ``count`` (at most 65,536) striped locks guards the pair; the same in every process."""
    return int(digest(namespace, key)[-4:], 16) % count


def mangle(namespace: str, key: str, limit: int = 200) -> str:
    """A physical name of at most ``limit`` characters from ``[A-Za-z0-9_.:-]`` for the pair.

    Readable (``k:3:foo:bar``) when both parts already keep to that alphabet and fit, else ``h:`` and
    64 hex digits. Different pairs give different names, where the store tells ``a`` from ``A``; one
    that does not wants :func:`digest`. Never empty, never begins with ``_``. ``ValueError`` when
    ``limit`` is below 66.
    """
    if limit < _DIGEST_LENGTH:
        raise ValueError(f"limit must be at least {_DIGEST_LENGTH} characters")
    if len(namespace) + len(key) < limit and _NAME.match(namespace) and _NAME.match(key):
        readable = f"k:{len(namespace)}:{namespace}:{key}"
        if len(readable) <= limit:
            return readable
    return "h:" + digest(namespace, key)
