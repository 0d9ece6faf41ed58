"""The session contract on every place that needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker.testing.session import OTHER_SECRET, SECRET, SessionContract


class TestMemory(SessionContract):
    @pytest.fixture
    def options(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"type": "memory", "secret": SECRET}


class TestFile(SessionContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"type": "file", "data_dir": str(tmp_path), "secret": SECRET}


class TestFileWithoutSecret(SessionContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"type": "file", "data_dir": str(tmp_path)}


class TestEncryptedFile(SessionContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"type": "file", "data_dir": str(tmp_path), "validate_key": SECRET, "encrypt_key": OTHER_SECRET}


class TestDbm(SessionContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"type": "dbm", "data_dir": str(tmp_path), "secret": SECRET}


class TestSignedCookie(SessionContract):
    survives_delete = True
    merges = False

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"type": "cookie", "validate_key": SECRET}


class TestEncryptedCookie(SessionContract):
    survives_delete = True
    merges = False

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"type": "cookie", "validate_key": SECRET, "encrypt_key": OTHER_SECRET}


class TestRevocableCookie(SessionContract):
    merges = False

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {
            "type": "cookie",
            "validate_key": SECRET,
            "revocation": {"type": "file", "data_dir": str(tmp_path)},
            "revocation_check_interval": 0,
        }


class TestHybridInCookie(SessionContract):
    merges = False

    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"type": "hybrid", "store": "file", "data_dir": str(tmp_path), "validate_key": SECRET}


class TestHybridInStore(SessionContract):
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        # A cookie too small for any session: every one goes to the store, with a pointer in the cookie.
        return {"type": "hybrid", "store": "file", "data_dir": str(tmp_path), "validate_key": SECRET, "cookie_max": 160}
