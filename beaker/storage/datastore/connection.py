"""The connection to Datastore: a channel, raw stubs on it, one per configuration and process.

Google's client objects retry for about a minute when the server is down, whatever timeout they are
given, and cost two to six times the processor time of a stub. So the stubs are called directly, on the
channel that such a client built with the right credentials. Everything of Google's is imported by the
first connection.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import Any

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.forks import after_fork
from beaker.locking.registries import SyncDict

__all__ = ["BACKEND", "Connection", "connector", "require_packages"]

BACKEND = "ext:google"
EMULATOR_PROJECT = "beaker-local"

_SCOPES = ("https://www.googleapis.com/auth/datastore",)
_METHODS = ("Lookup", "Commit", "RunQuery", "BeginTransaction", "Rollback")


class Connection:
    """A channel, its stubs and the names every request carries. Built once per configuration and process."""

    def __init__(self, channel: Any, project: str, database: str | None, *, emulated: bool = False) -> None:
        import grpc
        from google.cloud.datastore_v1 import types

        self.channel = channel
        self.project = project
        self.database = database or ""
        self.emulated = emulated
        self.rpc_error: type[Exception] = grpc.RpcError
        self.cas: bool | None = None
        self.joins = True
        """Whether a commit may be a transaction of its own, as far as is known."""
        self.cas_lock = threading.Lock()
        self.entity = types.Entity.pb()
        self.key = types.Key.pb()
        self.mutation = types.Mutation.pb()
        self.requests: dict[str, Any] = {}
        self.stubs: dict[str, Callable[..., Any]] = {}
        for name in _METHODS:
            request = getattr(types, f"{name}Request").pb()
            answer = getattr(types, f"{name}Response").pb()
            self.requests[name] = request
            self.stubs[name] = channel.unary_unary(
                f"/google.datastore.v1.Datastore/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=answer.FromString,
            )
        routing = f"project_id={project}" + (f"&database_id={self.database}" if self.database else "")
        self.metadata = (("x-goog-request-params", routing),)

    def request(self, method: str) -> Any:
        message = self.requests[method](project_id=self.project)
        if self.database:
            message.database_id = self.database
        return message


def require_packages() -> None:
    """Raise InvalidCacheBackendError unless the client packages are installed. Imports none of them."""
    try:
        found = all(importlib.util.find_spec(name) for name in ("grpc", "google.cloud.datastore_v1"))
    except ModuleNotFoundError as err:
        raise _missing_packages() from err
    if not found:
        raise _missing_packages()


def _missing_packages() -> InvalidCacheBackendError:
    return InvalidCacheBackendError(
        f"{BACKEND} needs google-cloud-datastore",
        option="type",
        hint="pip install 'beaker-gae[google]'",
        code="config.missing-package",
    )


def _connect(project: str | None, database: str | None, emulator_host: str | None) -> Connection:
    try:
        if emulator_host:
            return _connect_emulator(project or EMULATOR_PROJECT, database, emulator_host)
        return _connect_google(project, database)
    except ImportError as err:
        raise _missing_packages() from err


def _connect_emulator(project: str, database: str | None, host: str) -> Connection:
    import grpc

    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # The default waits up to two minutes before it tries a restarted server again.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    return Connection(grpc.insecure_channel(host, options=options), project, database, emulated=True)


def _connect_google(project: str | None, database: str | None) -> Connection:
    import google.auth
    import google.auth.exceptions
    from google.cloud import datastore

    try:
        if project is None:
            project = google.auth.default(scopes=_SCOPES)[1]
        if not project:
            raise ConfigError(
                f"{BACKEND} does not know the Google Cloud project",
                option="project",
                hint="set the option project or the variable GOOGLE_CLOUD_PROJECT",
            )
        make: Any = datastore.Client
        client = make(project=project, database=database)
    except google.auth.exceptions.GoogleAuthError as err:
        raise StoreUnavailable(
            "no Google Cloud credentials (on a laptop: gcloud auth application-default login, or the emulator)",
            backend=BACKEND,
            operation="connect",
        ) from err
    return _from_client(client)


def _from_client(client: Any) -> Connection:
    stub = getattr(client, "stub", None)
    if stub is not None and hasattr(stub, "grpc_channel"):  # google.cloud.ndb.Client
        channel = stub.grpc_channel
    elif hasattr(client, "_datastore_api"):  # google.cloud.datastore.Client publishes its channel nowhere else
        channel = client._datastore_api.transport.grpc_channel
    else:
        raise ConfigError(
            "client cannot be used",
            option="client",
            expected="a google.cloud.datastore.Client or google.cloud.ndb.Client",
            got=type(client).__name__,
        )
    return Connection(channel, client.project, client.database)


_connections: SyncDict[tuple[str | None, str | None, str | None], Connection] = SyncDict()
_inherited: list[Connection] = []


def connector(
    project: str | None, database: str | None, emulator_host: str | None, client: Any = None
) -> Callable[[], Connection]:
    """What builds, or finds, the connection of a configuration. Nothing is imported or opened until it is called.

    What is returned raises ConfigError (no project, not a client), InvalidCacheBackendError (no packages) or
    StoreUnavailable (no credentials). A given ``client`` is used as it is and belongs to the caller.
    """
    if client is not None:
        return lambda: _from_client(client)
    identity = (project, database, emulator_host)
    return lambda: _connections.get(identity, _connect, *identity)


def _forget_inherited() -> None:
    # The parent's channels are kept, unused, for as long as the child lives: closing one here would need
    # the parent's threads, which a fork does not copy.
    _inherited.extend(_connections.dict.values())
    _connections.dict.clear()


after_fork(_forget_inherited)
