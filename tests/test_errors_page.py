"""docs/errors.md lists every code that beaker and gae carry, each once, with meaning and fix."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from beaker import exceptions
from beaker.exceptions import BeakerException, BeakerWarning
from tests.codes import codes

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "errors.md").read_text("utf-8")
CODE = re.compile(r"[a-z]+(\.[a-z]+(-[a-z]+)*)")


def listed() -> list[str]:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_page_and_the_source_list_the_same_codes() -> None:
    """None is missing from the page, none on it is out of use, none is there twice."""
    carried = codes()
    missing = {code: place for code, place in carried.items() if code not in listed()}
    assert not missing, f"describe these in docs/errors.md: {missing}"
    assert sorted(set(listed()) - set(carried)) == []
    assert len(listed()) == len(set(listed()))


def test_codes_are_words() -> None:
    """An area, a dot, and words with hyphens, so that they can be searched for and compared."""
    assert [code for code in codes() if not CODE.fullmatch(code)] == []


def test_every_class_has_a_code_of_its_own() -> None:
    """Each exception and warning of the tree names its usual situation."""
    kinds = [kind for _, kind in inspect.getmembers(exceptions, inspect.isclass)]
    own = [kind for kind in kinds if issubclass(kind, (BeakerException, BeakerWarning))]
    assert [kind.__name__ for kind in own if "code" not in vars(kind)] == []
    shared = {"InvalidCryptoBackendError"}
    named = [vars(kind)["code"] for kind in own if kind.__name__ not in shared]
    assert len(named) == len(set(named))
