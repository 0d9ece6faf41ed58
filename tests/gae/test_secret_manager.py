"""Secret Manager: one read at start for each reference, and errors that name the option and not the secret."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.exceptions import ConfigError, InvalidCacheBackendError
from beaker.runtime import Platform, Runtime
from beaker.testing import Browser
from gae.app import compose
from gae.secret_manager import is_reference, read_secret
from gae.settings import Settings

SECRET = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
NAME = "projects/p/secrets/s/versions/latest"
APPENGINE = Runtime(platform=Platform.APPENGINE, project="demo")


class Secrets:
    """Stands for SecretManagerServiceClient; ``asked`` counts its calls."""

    def __init__(self, payload: bytes | Exception | None = None) -> None:
        self._payload = SECRET.encode() if payload is None else payload
        self.asked: list[str] = []

    def access_secret_version(self, *, name: str, timeout: float) -> Any:
        assert 0 < timeout <= 10
        self.asked.append(name)
        if isinstance(self._payload, Exception):
            raise self._payload
        return SimpleNamespace(payload=SimpleNamespace(data=self._payload))


def app(environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
    environ["beaker.session"].increment("n")
    environ["beaker.session"].save()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def test_each_secret_is_read_once_at_start() -> None:
    """The session's and the tasks' are read when the deployment starts, and never by a request."""
    client = Secrets()
    environ = {
        "BEAKER_SESSION_SECRET": f"secret:{NAME}",
        "BEAKER_SESSION_TYPE": "cookie",
        "BEAKER_TASKS_SECRET": "secret:projects/p/secrets/tasks/versions/2",
    }
    composed = compose(app, settings=Settings.from_environ(environ, runtime=APPENGINE, secrets_client=client))
    browser = Browser(composed)
    assert [browser.get().status for _ in range(3)] == ["200 OK"] * 3
    assert sorted(client.asked) == [NAME, "projects/p/secrets/tasks/versions/2"]
    assert composed.settings.origins["session.secret"] == "secret manager"
    assert composed.settings.tasks.secret == SECRET


def test_the_client_of_the_library_is_called_as_it_wants() -> None:
    """SecretManagerServiceClient itself, over gRPC to a server here: name, payload and a refusal arrive."""
    import grpc
    from google.cloud import secretmanager
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
        SecretManagerServiceGrpcTransport,
    )

    def access(request: Any, context: Any) -> Any:
        if request.name != NAME:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        return secretmanager.AccessSecretVersionResponse(name=NAME, payload={"data": SECRET.encode()})

    handler = grpc.unary_unary_rpc_method_handler(
        access,
        secretmanager.AccessSecretVersionRequest.deserialize,
        secretmanager.AccessSecretVersionResponse.serialize,
    )
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            client = secretmanager.SecretManagerServiceClient(
                transport=SecretManagerServiceGrpcTransport(channel=channel)
            )
            assert read_secret(f"secret:{NAME}", option="session.secret", client=client) == SECRET
            with pytest.raises(ConfigError, match="PermissionDenied"):
                read_secret("secret:projects/p/secrets/other/versions/1", option="session.secret", client=client)
    finally:
        server.stop(None).wait()


def test_an_argument_may_name_a_secret_too() -> None:
    """session={"secret": "secret:..."} is read like a variable."""
    client = Secrets()
    options = {"type": "cookie", "secret": f"secret:{NAME}"}
    found = Settings.from_environ({}, runtime=APPENGINE, session=options, secrets_client=client)
    assert (found.session.secret, client.asked) == (SECRET, [NAME])
    with pytest.raises(ConfigError, match=r"session\.secret"):
        Settings.from_environ({}, runtime=APPENGINE, session={"secret": "secret:x"}, secrets_client=client)


@pytest.mark.parametrize(
    ("reference", "payload", "message"),
    [
        ("secret:", SECRET.encode(), "names no secret version"),
        ("secret:projects/p/secrets/s", SECRET.encode(), "names no secret version"),
        (f"secret:{NAME}/more", SECRET.encode(), "names no secret version"),
        (f"secret:{NAME}\n\n", b" \n", "is empty"),
        (f"secret:{NAME}", SECRET.encode() + b"\xff", "is not text"),
        (f"secret:{NAME}", PermissionError("403"), "could not be read"),
    ],
)
def test_errors_name_the_option_and_never_the_secret(reference: str, payload: bytes | Exception, message: str) -> None:
    """Malformed references, empty and unreadable secrets: the variable is named, no error in the chain holds a byte."""
    with pytest.raises(ConfigError, match=rf"BEAKER_X.* {message}") as caught:
        read_secret(reference, option="BEAKER_X", client=Secrets(payload))
    assert caught.value.option == "BEAKER_X"
    assert SECRET not in str(caught.value)
    if not isinstance(payload, Exception):
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__cause__ is None


def test_space_around_a_secret_is_not_part_of_it() -> None:
    """`gcloud secrets create --data-file` often ends it with a line break; a reference may have one, too."""
    assert read_secret(f" secret:{NAME}\n", option="x", client=Secrets(b"\n a b \r\n")) == "a b"
    assert [is_reference(value) for value in (" secret:x", "secret:", "Secret:x", "x secret:", b"secret:x", None)] == [
        True, True, False, False, False, False
    ]  # fmt: skip


def test_without_the_client_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "google.cloud.secretmanager", None)
    with pytest.raises(InvalidCacheBackendError, match=r"pip install 'beaker-gae\[secrets\]'") as caught:
        read_secret(f"secret:{NAME}", option="BEAKER_X")
    assert caught.value.option == "BEAKER_X"


def test_without_credentials_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot be built, as on a laptop that has not signed in, is an error with what to do."""
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import secretmanager

    def refuse() -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", refuse)
    with pytest.raises(ConfigError, match=r"BEAKER_X.*gcloud auth application-default login"):
        read_secret(f"secret:{NAME}", option="BEAKER_X")
