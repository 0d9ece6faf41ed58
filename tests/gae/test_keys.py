"""Keys in the deployment kit: the one a laptop keeps, those of Secret Manager, and what is not a key."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest

from beaker.config.parse import parse_session
from beaker.crypto.keyring import KeyRing, new_key
from beaker.exceptions import ConfigError
from beaker.paths import read_private
from beaker.runtime import Runtime
from gae import secret_manager
from gae.functions import with_session
from gae.settings import KEPT_SECRET, Settings, Tasks


def kept_at(tmp_path: Path) -> Path:
    path = tmp_path / KEPT_SECRET
    path.write_text(new_key())
    path.chmod(0o600)
    return path


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are those of POSIX")
class TestKeptSecret:
    def start(self, tmp_path: Path) -> None:
        Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path)}, runtime=Runtime())

    def test_is_used(self, tmp_path: Path) -> None:
        """A file of this user's alone is the key."""
        kept_at(tmp_path)
        self.start(tmp_path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o644])
    def test_of_a_mode_that_lets_others_in(self, tmp_path: Path, mode: int) -> None:
        """A file that other users can read or write is refused with what to do."""
        kept_at(tmp_path).chmod(mode)
        with pytest.raises(ConfigError, match=rf"not this user's alone.*mode {mode:o}.*chmod 600"):
            self.start(tmp_path)

    def test_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that another user has put there is refused."""
        kept_at(tmp_path)
        monkeypatch.setattr("gae.kept_secret.os.geteuid", lambda: 4242)
        with pytest.raises(ConfigError, match="another user"):
            self.start(tmp_path)

    def test_that_is_no_file(self, tmp_path: Path) -> None:
        """A link, also one that leads nowhere, and a directory are refused."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for target in (kept_at(elsewhere), tmp_path / "nowhere"):
            link = tmp_path / KEPT_SECRET
            link.symlink_to(target)
            with pytest.raises(ConfigError, match="something else than a file"):
                self.start(tmp_path)
            link.unlink()

    def test_of_two_names_or_a_pipe(self, tmp_path: Path) -> None:
        """A hard link may be under another user's name elsewhere, and a pipe is not waited for."""
        path = kept_at(tmp_path)
        os.link(path, tmp_path / "second")
        with pytest.raises(ConfigError, match="second name"):
            self.start(tmp_path)
        path.unlink()
        os.mkfifo(path, 0o600)
        with pytest.raises(ConfigError, match="something else than a file"):
            self.start(tmp_path)

    def test_below_a_directory_that_others_can_write(self, tmp_path: Path) -> None:
        """Whoever can replace the directory can replace the key; a sticky directory above is none of those."""
        kept_at(tmp_path)
        data = tmp_path / "above" / "data"
        data.mkdir(parents=True, mode=0o700)
        kept_at(data)
        (tmp_path / "above").chmod(0o777)
        with pytest.raises(ConfigError, match=r"above can be written by every user.*chmod o-w"):
            self.start(data)
        (tmp_path / "above").chmod(0o1777)
        self.start(data)
        data.chmod(0o777)
        with pytest.raises(ConfigError, match="chmod"):
            self.start(data)

    def test_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a path leads to later is not asked: the key is what was read through the descriptor."""
        key = kept_at(tmp_path).read_text()

        def read_then_replaced(name: str, directory: int) -> Any:
            found = read_private(name, directory)
            kept_at(tmp_path)
            return found

        monkeypatch.setattr("gae.kept_secret.read_private", read_then_replaced)
        found = Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path)}, runtime=Runtime())
        assert (tmp_path / KEPT_SECRET).read_text() != key
        assert (*found.session.secret, *found.cache["secret"]) == (key, key)


class TestReferences:
    def client(self, asked: list[str]) -> Any:
        def access(*, name: str, timeout: float) -> Any:
            asked.append(name)
            return SimpleNamespace(payload=SimpleNamespace(data=new_key().encode()))

        return SimpleNamespace(access_secret_version=access)

    def test_in_lists_and_dicts(self, tmp_path: Path) -> None:
        """A list of keys, an address and what an option of options holds are read as well."""
        asked: list[str] = []
        name = "secret:projects/p/secrets/s/versions/{}".format
        found = Settings.from_environ(
            {"BEAKER_DATA_DIR": str(tmp_path)},
            runtime=Runtime(),
            session={"secret": [name(1), name(2)], "revocation": {"type": "ext:redis", "url": name(3)}},
            regions={"r": {"secret": name(4)}},
            secrets_client=self.client(asked),
        )
        assert sorted(asked) == [name(n).removeprefix("secret:") for n in (1, 2, 3, 4)]
        assert "secret:" not in repr([found.session.secret, found.session.revocation, found.cache])

    def test_in_a_variable_of_json(self, tmp_path: Path) -> None:
        """A reference within a JSON object is read, too."""
        asked: list[str] = []
        value = '{"type": "ext:redis", "url": "secret:projects/p/secrets/s/versions/5"}'
        environ = {"BEAKER_DATA_DIR": str(tmp_path), "BEAKER_SESSION_REVOCATION": value}
        found = Settings.from_environ(environ, runtime=Runtime(), secrets_client=self.client(asked))
        assert found.session.revocation["url"].startswith("bkr1_")

    @pytest.mark.parametrize("text", ["/etc/keys/tasks-secret", "${TASKS_SECRET_OF_MINE}", "FILE:/etc/keys/tasks"])
    def test_the_secret_of_purges_is_none(self, tmp_path: Path, text: str) -> None:
        """A value that would let every reader of app.yaml purge is refused, in the variable and in its file."""
        with pytest.raises(ConfigError, match=r"BEAKER_TASKS_SECRET.* not a key"):
            Tasks.from_environ({"BEAKER_TASKS_SECRET": text})
        path = tmp_path / "tasks"
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"BEAKER_TASKS_SECRET.* not a key"):
            Tasks.from_environ({"BEAKER_TASKS_SECRET_FILE": str(path)})
        path.write_text(f"{new_key()}\n{new_key()}\n")
        with pytest.raises(ConfigError, match="several lines"):
            Tasks.from_environ({"BEAKER_TASKS_SECRET_FILE": str(path)})


def test_the_repr_of_options_hides_every_address() -> None:
    """What revocation and namespace_args hold may be a url with a password."""
    given = {"type": "ext:redis", "url": "redis://u:geheim@h"}
    found = parse_session(
        {"session.type": "memory", "session.revocation": given, "session.namespace_args": {"url": "redis://u:geheim@h"}}
    )
    assert "geheim" not in repr(found)


def test_with_session_reads_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of a function name secrets as those of compose do: the key is what Secret Manager has."""
    key, asked = new_key(), []

    def access(*, name: str, timeout: float) -> Any:
        asked.append(name)
        return SimpleNamespace(payload=SimpleNamespace(data=key.encode()))

    monkeypatch.setattr(secret_manager, "_client", lambda option: SimpleNamespace(access_secret_version=access))

    @with_session(type="memory", secret=["secret:projects/p/secrets/s/versions/1"])
    def function(request: Any) -> str:
        ring = request.environ["beaker.session"]._context.ring
        return str(ring.current.kid.hex())

    assert asked == []
    app = flask.Flask("function")
    app.add_url_rule("/", "run", lambda: function(flask.request))
    for _ in range(2):
        assert app.test_client().get("/").text == KeyRing.from_option(key).current.kid.hex()
    assert asked == ["projects/p/secrets/s/versions/1"]
