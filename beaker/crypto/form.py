"""What a key looks like, and what does not although it stands where one should.

A key of ``python -m beaker keys new`` is ``bkr1_``, 32 random bytes and a checksum of 3 bytes, both as base64url
without padding: 52 characters, so that one that lost or changed a character is noticed. Any other text may be a key
too. What is refused is what is plainly the *name* of a key (a path, a reference, a variable) or its wrapping
(quotes, ``NAME=``, a comment): as a key it would work, known to everybody who reads the configuration.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import Final

from beaker.exceptions import ConfigError

__all__ = ["HINT", "check_key", "check_reference", "file_lines", "is_made_here", "is_words", "make_key"]

HINT: Final = "make one with `python -m beaker keys new`"
_PREFIX: Final = "bkr1_"
_BODY: Final = 43
_CHECK: Final = 4
_LIMIT: Final = 65536


def make_key() -> str:
    """A new key."""
    body = _PREFIX + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    return body + _checksum(body)


def _checksum(body: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(b"beaker2/key" + body.encode()).digest()[:3]).decode()


def _verifies(text: str) -> bool:
    whole = len(text) == len(_PREFIX) + _BODY + _CHECK and text.startswith(_PREFIX)
    return whole and text.isascii() and _checksum(text[:-_CHECK]) == text[-_CHECK:]


def is_made_here(value: bytes) -> bool:
    """Whether ``value`` is a whole key of ``keys new``."""
    return _verifies(value.decode("ascii", "replace"))


# Random characters are hardly ever in one case until the next separator, with digits at the end only.
_WORD: Final = r"(?-i:(?:[A-Z]?[a-z]+(?:[A-Z][a-z]+)*|[A-Z]+)\d{0,4})"
_WORDS: Final = rf"\W*{_WORD}(?:[-_./:\\#@]+{_WORD})+\W?\Z"
_SEGMENT: Final = rf"\.?{_WORD}(?:[-_.]+{_WORD})*"

# What stands for a key elsewhere, with what to write instead. Matched where the text begins, and only in a text with
# one of the characters before it: compiling all of them took 2.4 ms of the 34 until a new process's first response, and
# most keys are letters and digits.
_FILE_HINT: Final = "a file is written file:PATH, in lower case"
_VARIABLE_HINT: Final = "nothing replaces variables here: give the value, or file:PATH"
_REFERENCES: Final = (
    (":", r"secret:", "a Secret Manager reference", "the deployment kit reads it: gae.app.compose, gae.functions"),
    (
        "/", r"(//[\w.-]+/|/)?projects/[^/\s]+/secrets/",
        "a Secret Manager name",
        "write secret:projects/P/secrets/S/versions/V",
    ),
    (":=;/", r"(file|path)s?\s*[:=;/]", "the name of a file", _FILE_HINT),
    (":", r"(secret|env|environ|vault|sm|gcp|aws|arn|ssm|kms|op|sops|k8s|azure)s?\s*:", "a reference", _VARIABLE_HINT),
    (":", r"[a-z][a-z0-9+.-]*://", "a url", "give the key itself, or file:PATH"),
    (".([!", r"(process\.)?env(iron)?\s*[.(\[]|!\w+\s", "a variable", _VARIABLE_HINT),
    ("$", r".*\$\{\w+|\$\w+\Z|\$\(.*\)\Z", "a variable", _VARIABLE_HINT),
    ("{", r"\{%?\s*\w+\s*%?\}\Z", "a placeholder", _VARIABLE_HINT),
    (
        "%{<[.", r".*%\(\w+\)s|%\w+%\Z|.*\{\{.*\}\}|<[^<>]+>\Z|ENC\[|os\.(environ|getenv)",
        "a placeholder", _VARIABLE_HINT,
    ),
    ("@", r"@\w+:[\w./-]+\Z", "a reference", _VARIABLE_HINT),
    ("/", rf"@?[.~]{{0,2}}(/{_SEGMENT}){{2,}}/?\Z", "a path", _FILE_HINT),
    ("./~:\\", r"\.{1,2}[/\\]|~\w*[/\\]|[a-z]:[\\/]|\\\\", "a path", _FILE_HINT),
    ("/", r"/(etc|run|var|home|usr|opt|srv|mnt|tmp|root|app|data|secrets?|keys?|workspace)/", "a path", _FILE_HINT),
    (
        ".", r"/?[\w.-]+([/\\][\w.-]+)*\.(key|pem|txt|secret|json|ya?ml|ini|conf|env|crt|p12|bin)\Z",
        "a path", _FILE_HINT,
    ),
    ("\"'`", r"""(["'`]).*\1\Z""", "in quotes", "leave the quotes out"),
    (
        "=", r"(export\s+)?[\w.]*(key|secret|password|passwd|token|session|cache|beaker)[\w.]*\s*=\s*[^=\s]",
        "an assignment",
        "give what stands behind the ="
    ),
    ("-", r"-----BEGIN", "a PEM block", HINT),
    ("#/<", r"#\s|#!|//\s|<!--", "a comment", HINT),
)  # fmt: skip
# A line of a file was meant to be a key and nothing else, so it is held to more.
_LINES: Final = (
    (r"[#;]|--", "a comment", "the file holds keys only, one a line"),
    (r".*\s", "several words", "the file holds keys only, one a line"),
    (r"""["'`]|.*["'`,]\Z""", "in quotes", "the file holds keys only, without quotes and commas"),
    (r"[\[{].*[\]}]\Z|[\[{]\Z|[\]}]\Z", "JSON", "the file holds keys only, one a line"),
)
_BOMS: Final = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def _is_marked_text(value: bytes) -> bool:
    """Whether it is text behind a byte order mark: one in 30,000 keys of random bytes begins like one."""
    for mark, encoding in _BOMS.items():
        if value.startswith(mark):
            try:
                # Most random bytes are some text in UTF-16, and hardly any are in UTF-8.
                return value[len(mark) :].decode(encoding).isascii() or encoding == "utf-8"
            except UnicodeDecodeError:
                return False
    return False


def check_reference(value: bytes, option: str) -> None:
    """Raise ConfigError for text that names or wraps a key instead of being one. Bytes that are no text pass."""
    try:
        text = value.decode("ascii").strip()
    except UnicodeDecodeError:
        if _is_marked_text(value):
            raise _refused(option, "begins with a byte order mark", "save it as plain UTF-8") from None
        return
    for needed, pattern, what, hint in _REFERENCES:
        if any(char in text for char in needed) and re.match(pattern, text, re.IGNORECASE):
            raise _refused(option, f"is {what} and not a key", hint)


def check_key(value: bytes, option: str, *, line: bool = False) -> None:
    """Raise ConfigError for what is no key: see above; and for a key of ``keys new`` that is not whole.

    ``line``: it is a line of a file. Says nothing about strength.
    """
    check_reference(value, option)
    text = value.decode("ascii", "replace")
    if _verifies(text):
        return
    tail = text[-_BODY - _CHECK :]
    if _PREFIX in text.lower() or _verifies(_PREFIX + tail):
        raise _refused(
            option, "is one of `python -m beaker keys new` that is mistyped or not whole", "copy all of its line"
        )
    if line:
        for pattern, what, hint in _LINES:
            if re.match(pattern, text):
                raise _refused(option, f"is {what} and not a key", hint)


def is_words(value: bytes) -> bool:
    """Whether it reads like words: a passphrase, a path or a name of something, and no random characters."""
    return re.match(_WORDS, value.decode("ascii", "replace")) is not None


def file_lines(data: bytes, option: str) -> list[bytes]:
    """The lines of a key file that are not blank. Raises ConfigError for one that is not plain text of one key a line.

    The lines themselves are not judged.
    """
    if data.startswith(tuple(_BOMS)):
        raise _refused(option, "begins with a byte order mark", "save the file as plain UTF-8", "a file of")
    lines = [line.strip() for line in data.splitlines() if line.strip()]
    if not lines or len(data) > _LIMIT:
        raise ConfigError(
            f"{option} names a file that holds no keys",
            option=option,
            expected="one key a line, at most 64 KiB",
            code="config.unreadable-file",
        )
    if any(byte < 32 or byte >= 127 for line in lines for byte in line):
        raise _refused(option, "holds other bytes than printable ASCII", HINT, "a file of")
    return lines


def _refused(option: str, what: str, hint: str, subject: str = "a key of") -> ConfigError:
    return ConfigError(f"{subject} {option} {what}", option=option, hint=hint, code="config.not-a-key")
