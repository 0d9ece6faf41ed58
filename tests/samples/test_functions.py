"""The function samples, served by the functions-framework command."""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.samples.running import Client, copied, serving

RUBBISH = (
    b"",
    b"\xff",
    b"[]",
    b'{"good": "gold", "action": "fill"}',
    b'{"good": "tea"}',
    b'{"good": [], "action": "fill"}',
    b'{"good": "tea", "action": "sell"}',
)


def framework(target: str, *options: str) -> Callable[[int], Sequence[str]]:
    command = [str(Path(sys.executable).with_name("functions-framework")), "--target", target, *options]
    return lambda port: [*command, "--host", "127.0.0.1", "--port", str(port)]


@pytest.mark.parametrize(
    ("sample", "options"),
    [("functions_http", ()), ("functions_http", ("--debug",)), ("functions_async", ("--asgi",))],
    ids=["gunicorn", "debug server", "asgi"],
)
def test_an_http_function_knows_its_visitor(tmp_path: Path, sample: str, options: tuple[str, ...]) -> None:
    """Visits are counted per visitor, the lookup is done once for all of them, an unknown city is a 404."""
    folder = copied(sample, tmp_path)
    with serving(framework("hello", *options), folder, path="/?city=none") as url:
        ann, bob = Client(url), Client(url)
        first = ann.json("/?city=Oslo")
        second = ann.json("/?city=Lisbon")
        assert (first["visit"], second["visit"]) == (1, 2)
        assert second["asked"] == ["Lisbon", "Oslo"]
        theirs = bob.json("/?city=Oslo")
        assert (theirs["visit"], theirs["asked"], theirs["climate"]) == (1, ["Oslo"], "cool")
        assert theirs["at"] == first["at"]
        assert bob.refusal("/?city=Atlantis") == 404
    assert (folder / "data" / "session-secret").stat().st_mode & 0o077 == 0


def publish(url: str, message: bytes, id: str = "1") -> int:
    """Deliver a message as Pub/Sub's push of a CloudEvent does; returns the status."""
    body = json.dumps({"message": {"data": base64.b64encode(message).decode(), "messageId": id}}).encode()
    headers = {
        "Content-Type": "application/json",
        "Ce-Id": id,
        "Ce-Specversion": "1.0",
        "Ce-Source": "//pubsub.googleapis.com/projects/p/topics/prices",
        "Ce-Type": "google.cloud.pubsub.topic.v1.messagePublished",
    }
    with urllib.request.urlopen(urllib.request.Request(url + "/", body, headers), timeout=60) as answer:
        return int(answer.status)


@pytest.mark.parametrize("store", ["file", "ext:google"])
def test_an_event_fills_and_forgets_what_another_function_serves(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Two services share one region: `fill` replaces the price, `invalidate` drops it, rubbish changes nothing."""
    environ = {"BEAKER_CACHE_TYPE": store}
    if store == "ext:google":
        emulator = request.getfixturevalue("datastore_emulator")
        environ |= {"DATASTORE_EMULATOR_HOST": emulator.host, "GOOGLE_CLOUD_PROJECT": "functions-event-sample"}
    folder = copied("functions_event", tmp_path)
    changing = framework("changed", "--signature-type", "cloudevent")
    with (
        serving(framework("show"), folder, environ, path="/?good=none") as shop,
        serving(changing, folder, environ) as events,
    ):
        client = Client(shop)
        first = client.json("/?good=tea")
        assert client.json("/?good=tea")["at"] == first["at"]

        assert publish(events, b'{"good": "tea", "action": "fill"}') == 200
        answered = time.time()
        filled = client.json("/?good=tea")
        assert first["at"] < filled["at"] <= answered, "the event, not the visitor, should have waited"

        for rubbish in RUBBISH:
            assert publish(events, rubbish) == 200
        assert client.json("/?good=tea")["at"] == filled["at"]

        assert [publish(events, b'{"good": "tea", "action": "invalidate"}', id) for id in "22"] == [200, 200]
        assert client.json("/?good=tea")["at"] > filled["at"]
        assert client.refusal("/?good=gold") == 404
