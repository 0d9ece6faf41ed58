"""docs/security.md is true: the tests it names exist, each requirement has one or a reason, claims about code hold."""

from __future__ import annotations

import ast
import hmac
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import KeyRing, new_key
from beaker.crypto.tokens import BadToken, DataTokens, IdTokens, new_id
from beaker.exceptions import CorruptRecord

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+\.\d+\.\d+ \|", line)
]
NAMED = re.compile(r"`((?:tests|beaker)/[^`]*::[^`]*)`")

# The requirements of ASVS 5.0 in the sections that concern a session library: section, number of requirements.
SECTIONS = {"3.3": 5, "7.2": 4, "7.3": 2, "7.4": 5} | dict(
    zip((f"11.{section}" for section in range(1, 8)), (4, 5, 5, 4, 2, 2, 2), strict=True)
)


def names_in(path: Path) -> set[str]:
    """Tests of a file: ``test_x`` and ``TestClass::test_x``."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("name", sorted(set(NAMED.findall(PAGE))))
def test_every_test_named_on_the_page_exists(name: str) -> None:
    """The file, the class and the function, each as the page spells it."""
    path, _, test = name.partition("::")
    assert (ROOT / path).is_file()
    assert test.rpartition("::")[2].startswith("test_")
    assert test in names_in(ROOT / path)


def test_every_requirement_has_a_row() -> None:
    """V3.3, V7.2, V7.3, V7.4 and V11 as ASVS 5.0 numbers them, in order, each once."""
    expected = [f"{section}.{number}" for section, count in SECTIONS.items() for number in range(1, count + 1)]
    assert [row[0] for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_says_what_shows_it(row: list[str]) -> None:
    """Four cells: what is asked for, one of the four words for it, and a test or the reason why there is none."""
    assert len(row) == 4
    assert re.match(r"(met|option|application|not used)\b", row[2])
    assert NAMED.findall(row[3]) or re.match(r"no test: \w+", row[3])
    if row[2].startswith(("met", "option")):
        assert NAMED.findall(row[3]), "what is met is shown by a test"


# -- claims about the code ---------------------------------------------------------------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("beaker", "gae"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith("beaker/testing/"):
                yield name, ast.parse(path.read_text("utf-8"))


def names_used(tree: ast.AST) -> set[str]:
    """Attributes, names, and whole texts of a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.name.rpartition(".")[2])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


HASHES = {"md5", "sha1", "sha224", "sha384", "sha512", "sha3_256", "blake2b", "blake2s", "shake_256", "pbkdf2_hmac"}
CIPHERS = {"AESGCM", "AES", "CTR", "CBC", "ECB", "CFB", "OFB", "ChaCha20Poly1305", "ARC4", "TripleDES", "Fernet"}
ALLOWED = {
    "beaker/locking/files.py": {"blake2b"},  # names lock stripes
    "beaker/crypto/pbkdf2.py": {"sha1", "pbkdf2_hmac"},  # the manual's interface, used by nothing here
    "beaker/crypto/sealing.py": {"AESGCM"},
    "beaker/crypto/util.py": {"md5", "sha1"},  # names that programs import from there, used by nothing here
    "beaker/session/legacy/payload.py": {"sha1", "pbkdf2_hmac", "AESGCM", "AES", "CTR"},  # reads what old Beaker wrote
    "beaker/storage/redis/scripts.py": {"sha1"},  # Redis' own name for a script
}


def test_only_the_named_ciphers_and_hashes_are_used() -> None:
    """Beside SHA-256 and AES-256-GCM nothing, but where the page says so; and nothing uses the manual's PBKDF2."""
    found = {}
    for name, tree in modules():
        used = names_used(tree) & (HASHES | CIPHERS)
        if used:
            found[name] = used
        if name != "beaker/crypto/pbkdf2.py":
            assert not names_used(tree) & {"PBKDF2", "beaker.crypto.pbkdf2"}, name
    assert found == ALLOWED


def test_random_numbers_that_must_not_be_guessed_come_from_the_system() -> None:
    """No UUID is used, and the random module serves waits and jitter only, never the code that creates ids and keys."""
    waits = {
        "beaker/locking/api.py",
        "beaker/caching/terms.py",
        "beaker/caching/freshness.py",
        "beaker/session/contention.py",
        "beaker/storage/datastore/gateway.py",
        "beaker/storage/breaker.py",
        "beaker/storage/lease.py",
    }
    found = set()
    for name, tree in modules():
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        assert not names_used(tree) & {"uuid1", "uuid3", "uuid4", "uuid5", "getrandbits", "randbytes"}, name
        if "random" in imported:
            found.add(name)
    assert found == waits


def test_macs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id, a signed cookie and a record with a wrong MAC are refused by hmac.compare_digest, over the whole MAC."""
    compared: list[int] = []
    real = hmac.compare_digest

    def counted(one: bytes, two: bytes) -> bool:
        assert len(one) == len(two)
        compared.append(len(one))
        return real(one, two)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    ring = KeyRing.from_option(new_key())
    ids, data = IdTokens(ring, "sid"), DataTokens(ring, "sid", encrypt=False, clock=lambda: 0.0)
    envelope = Envelope(backend="test", ring=ring)
    record = envelope.seal("n", "k", b"payload", stored=0.0, expires=None)
    with pytest.raises(BadToken):
        ids.open(ids.issue(new_id())[:-8] + "AAAAAAAA")
    with pytest.raises(BadToken):
        data.open(data.seal(b"x", created=0.0, issued=0.0, expires=None)[:-8] + "AAAAAAAA")
    with pytest.raises(CorruptRecord):
        envelope.open("n", "k", record[:-1] + bytes((record[-1] ^ 1,)))
    assert compared == [16, 32, 16]
