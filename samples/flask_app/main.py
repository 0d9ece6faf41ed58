"""A shopping list with Flask: the list is in the session, the suggestions are cached."""

from __future__ import annotations

import sys
import time
from typing import Any

from flask import Flask, redirect, render_template_string, request

from beaker.cache import cache_region
from beaker.session import WebSession
from beaker.session import get as get_session
from gae.app import compose

SEASONS = [["tomatoes", "cherries"], ["asparagus", "radishes"], ["leeks", "apples"]]
SUGGESTION_SECONDS = 1.0

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shopping list</title>
<style>body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 30rem; margin: 2rem auto; padding: 0 1rem }
form { display: inline } input, button { font: inherit } li button { margin-left: .5rem }</style>
<h1>Shopping list</h1>
<ul>{% for item in items %}<li>{{ item }}
<form method="post" action="/remove"><button name="item" value="{{ item }}">remove</button></form></li>
{% else %}<li>Nothing yet.</li>{% endfor %}</ul>
<form method="post" action="/add"><input name="item" maxlength="80" aria-label="Item" required>
<button>add</button></form>
<p>In season: {{ season|join(", ") }}.</p></html>
"""

flask_app = Flask(__name__)


@cache_region("suggestions")
def in_season(month: int) -> list[str]:
    """A slow lookup; the first page of a month waits for it."""
    time.sleep(SUGGESTION_SECONDS)
    return SEASONS[month % len(SEASONS)]


def session() -> WebSession:
    """This visitor's session."""
    return get_session(request.environ)


@flask_app.get("/")
def show() -> str:
    season = in_season(time.gmtime().tm_mon)
    return render_template_string(PAGE, items=sorted(session().get("items", ())), season=season)


@flask_app.post("/add")
def add() -> Any:
    item = request.form.get("item", "").strip()[:80]
    if item:
        # Two tabs that add at the same moment both succeed: the session merges additions.
        session().add("items", item)
        session().save()
    return redirect("/", 303)


@flask_app.post("/remove")
def remove() -> Any:
    session().discard("items", request.form.get("item", ""))
    session().save()
    return redirect("/", 303)


# Outside of Flask, so that the session's cookie is added to every response of Flask.
app = compose(flask_app.wsgi_app, regions={"suggestions": {"expire": 3600}})

if __name__ == "__main__":
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080, app, threaded=True)
