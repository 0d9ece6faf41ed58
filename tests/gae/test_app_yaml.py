"""``beaker doctor --app-yaml FILE``: which files it takes, and what it finds in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beaker.crypto.keyring import new_key
from tests.test_command_line import run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1\n", "is no app.yaml"),
        ("a: [b\n", "is no app.yaml"),
        ("runtime: python313\nenv_variables: {BEAKER_SESSION_TYPE: cookie}\n", "each on a line of its own"),
    ],
)
def test_the_doctor_refuses_what_it_cannot_read(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no app.yaml, or has its variables in one line, is a wrong call, not a deployment without variables."""
    file = tmp_path / "service.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as caught:
        run("doctor", "--app-yaml", str(file))
    assert caught.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_doctor_sees_a_key_in_the_file_it_is_given(tmp_path: Path) -> None:
    """Whatever the file's name: a secret in it is a finding; no variables at all are none."""
    file = tmp_path / "production.yaml"
    key = new_key()
    for name in (file, tmp_path / "app.yaml"):
        name.write_text(f"runtime: python313\nenv_variables:\n  BEAKER_SESSION_SECRET: {key}\n")
        status, told = run("doctor", "--app-yaml", str(name), "--json")
        found = [row for row in json.loads(told)["findings"] if row["code"] == "deploy.secret-in-app-yaml"]
        assert status == 1
        assert [row["message"].split()[0] for row in found] == [name.name]
        assert key not in told
    file.write_text("runtime: python313\nenv_variables: {}\n")
    assert run("doctor", "--app-yaml", str(file))[0] == 1
