"""One visit to the sample under dev_appserver.py, with an emulator of its own; ends with everything stopped.

dev_appserver.py installs requirements.txt into a new environment at every start, so PyPI must be reachable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from beaker.crypto.keyring import new_key  # noqa: E402  (the checkout must be importable first)
from gae import emulator  # noqa: E402
from tests.deployment import app_yaml, shown, upload  # noqa: E402
from tests.pythons import interpreters  # noqa: E402
from tests.samples.running import Client  # noqa: E402
from tests.servers import free_port  # noqa: E402

START_SECONDS = 180.0
QUIT_SECONDS = 45.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """What was seen and not expected."""


def command(sdk: Path, folder: Path, host: str, port: int, admin: int) -> list[str]:
    """dev_appserver.py with the sample of ``folder``. The shell's environment does not reach the application."""
    runtime = app_yaml()[0]["runtime"]
    version = f"{runtime[6]}.{runtime[7:]}"
    python = interpreters().get(version)
    if python is None:
        raise Failed(f"app.yaml says {runtime}, and there is no Python {version} on PATH")
    return [
        str(sdk / "bin" / "dev_appserver.py"),
        "--application=demo-app",
        "--host=127.0.0.1",
        f"--port={port}",
        "--admin_host=127.0.0.1",
        f"--admin_port={admin}",
        "--api_host=127.0.0.1",
        f"--storage_path={folder.parent / 'storage'}",
        "--skip_sdk_update_check=true",
        # With an emulator of its own it fails, and leaves that one running.
        "--support_datastore_emulator=false",
        f"--python_virtualenv_path={folder.parent / 'environment'}",
        f"--runtime_python_path={runtime}={python}",
        "--env_var",
        f"DATASTORE_EMULATOR_HOST={host}",
        "--env_var",
        f"BEAKER_SESSION_SECRET={new_key()}",
        # A compiled file beside the code would look like a change of it, and start everything again.
        "--env_var",
        "PYTHONDONTWRITEBYTECODE=1",
        str(folder / "app.yaml"),
    ]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the sample, once it answers; afterwards nothing of it runs."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise Failed("there is no gcloud on PATH: the Google Cloud SDK brings dev_appserver.py")
    sdk = Path(gcloud).resolve().parents[1]
    bundled = sdk / "platform" / "bundledpythonunix" / "bin" / "python3"
    environ = {**os.environ, "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    if bundled.exists():
        # Another Python's packages would hide those of the SDK.
        environ.setdefault("CLOUDSDK_PYTHON", str(bundled))
    port, admin = free_port(), free_port()
    log = folder.parent / "dev_appserver.log"
    with emulator.start() as datastore, log.open("wb") as output:
        server = subprocess.Popen(
            command(sdk, folder, datastore.host, port, admin),
            cwd=folder.parent,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            if not answers(f"http://127.0.0.1:{port}/healthz", server):
                raise Failed("dev_appserver.py did not start the sample")
            yield f"http://127.0.0.1:{port}"
        except (Failed, OSError) as error:
            raise Failed(f"{error}\n{log.read_text(errors='replace')[-4000:]}") from error
        finally:
            end(server, admin)


def answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Whether ``url`` answers 200 in time."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with DIRECT.open(url, timeout=START_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
    return False


def end(server: subprocess.Popen[bytes], admin: int) -> None:
    """Ask it to quit. A signal would leave gunicorn behind, so the group is killed, whatever has become of it."""
    with contextlib.suppress(OSError):
        DIRECT.open(f"http://127.0.0.1:{admin}/quit", timeout=QUIT_SECONDS).close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(QUIT_SECONDS)
        print(f"quit with status {server.returncode}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
        print("something of its group was still there and has been killed")
    server.wait()


def expect(what: str, seen: object, wanted: object) -> None:
    """Say what is right, fail at what is not."""
    if seen != wanted:
        raise Failed(f"{what}: {seen!r} instead of {wanted!r}")
    print(f"{what}: {seen}")


def visit(url: str) -> None:
    """Sign in, fill the cart, change the id, sign out."""
    client = Client(url)

    def post(path: str, **form: str) -> str:
        page = client.get("/")
        return client.post(path, csrf=page.split('name="csrf" value="')[1].split('"')[0], **form)

    page = client.get("/")
    expect("platform", shown(page, "platform"), "appengine-dev + Datastore emulator")
    expect("sessions in", shown(page, "session-type"), "ext:google")
    expect("first visit", shown(page, "visits"), "1")
    expect("second visit", shown(client.get("/"), "visits"), "2")
    expect("somebody else's first visit", shown(Client(url).get("/"), "visits"), "1")
    expect("signed in", shown(post("/sign-in", name="Ann"), "user"), "Ann")
    for number in range(1, 6):
        expect("cart", shown(post("/cart/add", good="tea"), "cart-tea"), str(number))
    before = {cookie.value for cookie in client.jar}
    expect("cart under a new id", shown(post("/regenerate"), "cart-tea"), "5")
    expect("ids in common", before & {cookie.value for cookie in client.jar}, set())
    page = post("/sign-out")
    expect("signed out", (shown(page, "user"), shown(page, "cart-tea")), (None, "0"))


def main() -> int:
    """Exit status 0 when everything was as expected."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="beaker-smoke-") as place:
        try:
            with served(upload(Path(place) / "upload")) as url:
                print(f"answers after {time.monotonic() - began:.0f} s")
                visit(url)
        except (Failed, emulator.EmulatorError) as error:
            print(error, file=sys.stderr)
            return 1
    print(f"all as expected, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
