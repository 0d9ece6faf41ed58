"""The WSGI samples and the script, each run by the command its README gives."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.samples.running import ROOT, Client, copied, environment, serving


def script(port: int) -> Sequence[str]:
    return [sys.executable, "main.py", str(port)]


def test_cloud_run_by_its_procfile(tmp_path: Path) -> None:
    """The Procfile's own command serves: counts a client, right numbers, 404 and 405 for the rest, health."""
    folder = copied("cloud_run", tmp_path)
    command = (folder / "Procfile").read_text().removeprefix("web: ").strip()
    with serving(lambda port: ["sh", "-c", f"exec {command}"], folder) as url:
        client = Client(url)
        answers = [client.json("/primes/100000"), client.json("/primes/100000"), client.json("/primes/0")]
        assert [(answer["primes"], answer["asked"]) for answer in answers] == [(9592, 1), (9592, 2), (0, 3)]
        assert [client.json(f"/primes/{n}")["primes"] for n in (1, 2, 3, 4, 10)] == [0, 0, 1, 2, 4]
        for path in ("/", "/primes/-1", "/primes/2000001", "/primes/%D9%A1", "/primes/9999999999", "/primes/5/"):
            assert client.refusal(path) == 404, path
        assert client.refusal("/primes/5", any="form") == 405
        assert client.get("/healthz") == "ok\n"


def test_fastapi_by_its_procfile(tmp_path: Path) -> None:
    """The Procfile's own command serves: one lookup for all clients, a list for each, which it can forget; health."""
    folder = copied("fastapi_app", tmp_path)
    command = (folder / "Procfile").read_text().removeprefix("web: ").strip()
    with serving(lambda port: ["sh", "-c", f"exec {command}"], folder, path="/none") as url:
        ann, bob = Client(url), Client(url)
        first, second = ann.json("/climate/Oslo"), ann.json("/climate/Lisbon")
        assert (first["visit"], second["visit"], second["asked"]) == (1, 2, ["Lisbon", "Oslo"])
        theirs = bob.json("/climate/Oslo")
        assert (theirs["visit"], theirs["at"]) == (1, first["at"])
        assert bob.refusal("/climate/Atlantis") == 404
        ann.post("/forget")
        assert ann.json("/climate/Oslo")["visit"] == 1
        assert ann.get("/healthz") == "ok\n"


def test_flask_keeps_a_list(tmp_path: Path) -> None:
    """Items are added and removed, escaped where they are shown, and another visitor's list is empty."""
    with serving(script, copied("flask_app", tmp_path)) as url:
        client, other = Client(url), Client(url)
        client.post("/add", item="milk")
        page = client.post("/add", item="<b>bread</b>")
        assert "<li>milk" in page
        assert "&lt;b&gt;bread" in page
        assert "<b>bread" not in page
        assert "<li>milk" not in client.post("/remove", item="milk")
        assert "Nothing yet." in other.get("/")


def test_pyramid_remembers_the_language(tmp_path: Path) -> None:
    """The language chosen stays with the visitor; one that does not exist is a 404 and changes nothing."""
    with serving(script, copied("pyramid_app", tmp_path)) as url:
        client = Client(url)
        assert client.json("/") == {"greeting": "Good day", "language": "en", "visits": 1}
        assert '"Bom dia"' in client.post("/language/pt")
        assert client.refusal("/language/xx", any="form") == 404
        assert client.json("/") == {"greeting": "Bom dia", "language": "pt", "visits": 3}
        assert Client(url).json("/")["language"] == "en"


def test_wsgiref_counts_visits(tmp_path: Path) -> None:
    """With the key of the README visits are counted over a restart of the server; the greeting is the cached one."""
    folder = copied("local_wsgi", tmp_path)
    (folder / "data").mkdir()
    key = [sys.executable, "-m", "beaker", "keys", "new"]
    made = subprocess.run(key, env=environment(folder), capture_output=True, text=True, check=True).stdout
    (folder / "data" / "secret.key").write_text(made)
    with serving(script, folder, path="/none") as url:
        client = Client(url)
        first = client.get("/")
    with serving(script, folder, path="/none") as url:
        client.url = url
        again = client.get("/")
        assert client.refusal("/favicon.ico") == 404
    assert first.endswith("This is visit 1.\n")
    assert again == first.replace("visit 1", "visit 2")


def test_wsgiref_without_a_key_says_what_to_do(tmp_path: Path) -> None:
    """Without the README's line about the key the error names the option whose file is not there."""
    folder = copied("local_wsgi", tmp_path)
    ended = subprocess.run(script(0), cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].startswith("beaker.exceptions.ConfigError: session.secret names a file")


def test_a_script_remembers(tmp_path: Path) -> None:
    """The second run writes nothing and says the same; --forget removes what was kept."""
    folder = copied("local_cache", tmp_path)

    def run(*arguments: str) -> str:
        command = [sys.executable, "main.py", *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
        return ended.stdout

    def kept() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in (folder / "data").rglob("*")
            if path.is_file() and path.stat().st_size and path.name != ".signing-key"
        }

    assert run("1000").startswith("871: 179 steps")
    first = kept()
    assert len(first) == 1
    assert run("1000").startswith("871: 179 steps")
    assert kept() == first
    assert run("1000", "--forget") == "Forgot 1000.\n"
    assert kept() == {}


def test_every_sample_is_complete_and_listed() -> None:
    """Each folder has main.py, requirements.txt and a README, and the index names each once."""
    index = (ROOT / "samples" / "README.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(\1/\)", index, re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "samples").glob("*/main.py")}
    assert sorted(listed) == sorted(folders)
    for name in folders:
        for file in ("main.py", "requirements.txt", "README.md"):
            assert (ROOT / "samples" / name / file).is_file(), f"{name}/{file}"
    deployed = {name for name in folders if "gcloud" in (ROOT / "samples" / name / "README.md").read_text()}
    for name in deployed:
        assert "data/" in (ROOT / "samples" / name / ".gcloudignore").read_text(), f"{name} would upload its secret"
