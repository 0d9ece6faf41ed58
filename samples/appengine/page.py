"""The sample's one page as HTML: no template engine, no script, no request to anywhere else."""

from __future__ import annotations

import time
from html import escape
from typing import Any

__all__ = ["HEADERS", "message", "render"]

HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    # After signing out, the browser's back button must not show what the session held.
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    # For browsers that do not know frame-ancestors.
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #566076; --line: #dfe3ea; --edge: #8189a0; --card: #fff;
  --back: #f4f5f8; --accent: #2f5fd0; --good: #1b7346; --slow: #98510d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ecf3; --soft: #9fa9bd; --line: #333b4c; --edge: #727c93;
  --card: #1c2230; --back: #12161f; --accent: #86a8ff; --good: #63c690; --slow: #e5a35b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 2.5rem; }
header { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; align-items: baseline; margin-bottom: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; letter-spacing: -.01em; }
header p, footer, .hint { color: var(--soft); margin: 0; }
.hint { font-size: .9rem; margin-top: auto; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.1rem 1.2rem;
  display: flex; flex-direction: column; gap: .8rem; align-items: flex-start; min-width: 0; }
h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: var(--soft); margin: 0; }
p { margin: 0; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dl.cart { grid-template-columns: max-content minmax(2.5rem, max-content) max-content; gap: .5rem 1rem; }
dl.cart > * { align-self: center; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
form, .actions { display: flex; flex-wrap: wrap; gap: .5rem; align-items: end; }
form:has(label) { display: grid; grid-template-columns: minmax(0, 11rem) auto; }
label { grid-column: 1 / -1; color: var(--soft); font-size: .9rem; flex: 1 0 100%; }
input[type=text], select, button { font: inherit; min-height: 2.75rem; padding: .4rem .9rem; color: inherit;
  border: 1px solid var(--edge); border-radius: .5rem; background: var(--back); }
input[type=text], select { width: 11rem; max-width: 100%; min-width: 0; }
button { cursor: pointer; }
button:hover { border-color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--card); }
.big { font-size: 1.5rem; line-height: 1.3; }
.hit { color: var(--good); font-weight: 600; } .miss { color: var(--slow); font-weight: 600; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
a { color: var(--accent); }
footer { margin-top: 1.2rem; font-size: .9rem; } code { font-size: .92em; }
"""

PLACES = {
    "cookie": "The whole session is sealed in the browser's cookie.",
    "hybrid": "A small session is sealed in the browser's cookie, a larger one is stored.",
}
STORED = "The browser's cookie holds the session's id only."


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def message(title: str, text: str) -> str:
    """A page that says one thing and leads back."""
    return _document(
        title, f'<section><h1>{escape(title)}</h1><p>{escape(text)}</p><a href="/">Back to the shop</a></section>'
    )


def _form(path: str, label: str, csrf: str, fields: str = "", main: bool = False) -> str:
    """A button that posts; ``label`` and ``fields`` are HTML."""
    kind = ' class="main"' if main else ""
    token = f'<input type="hidden" name="csrf" value="{escape(csrf)}">'
    return f'<form method="post" action="{path}">{token}{fields}<button{kind}>{label}</button></form>'


def _adder(good: str, csrf: str) -> str:
    name = escape(good)
    field = f'<input type="hidden" name="good" value="{name}">'
    return _form("/cart/add", f'Add<span class="unseen"> one {name}</span>', csrf, field)


def _card(name: str, title: str, body: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>'


def _ago(when: float | None) -> str:
    if when is None:
        return "this is your first visit"
    seconds = max(0, int(time.time() - when))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def render(*, csrf: str, user: Any, visits: int, last_seen: float | None, cart: dict[str, int], city: str,
           cities: tuple[str, ...], report: dict[str, Any], hit: bool, took: float, platform: str,
           session_type: str, cache_type: str, instance: str) -> str:  # fmt: skip
    """The whole page. Everything a visitor typed is escaped here."""
    if user is None:
        field = (
            '<label for="name">Your name</label>'
            '<input type="text" id="name" name="name" maxlength="40" autocomplete="nickname" required>'
        )
        who = "<p>You are not signed in.</p>" + _form("/sign-in", "Sign in", csrf, field, main=True)
    else:
        who = f'<p class="big" id="user">{escape(str(user))}</p>' + _form("/sign-out", "Sign out", csrf)
    who += '<p class="hint">Signing in keeps the cart under a new id; signing out ends the session for good.</p>'
    visited = f"""<dl><dt>visits</dt><dd id="visits">{visits}</dd>
<dt>last seen</dt><dd id="last-seen">{_ago(last_seen)}</dd>
<dt>stored in</dt><dd><code id="session-type">{escape(session_type)}</code></dd></dl>
{_form("/regenerate", "New session id", csrf)}
<p class="hint">{PLACES.get(session_type, STORED)} A new id keeps what is in it and ends the old cookie.</p>"""
    rows = "".join(
        f'<dt>{escape(good)}</dt><dd id="cart-{good}">{count}</dd><dd>{_adder(good, csrf)}</dd>'
        for good, count in cart.items()
    )
    bought = f"""<dl class="cart">{rows}</dl>{_form("/cart/empty", "Empty the cart", csrf)}
<p class="hint">Fill it from two tabs at once: nothing is lost.</p>"""
    options = "".join(f"<option{' selected' if name == city else ''}>{escape(name)}</option>" for name in cities)
    chooser = f'<label for="city">City</label><select id="city" name="city">{options}</select>'
    outcome = '<span class="hit" id="cache">hit</span>' if hit else '<span class="miss" id="cache">created now</span>'
    made = time.strftime("%H:%M:%S", time.gmtime(report["at"]))
    looked_up = f"""<p class="big">{escape(city)}: {escape(str(report["text"]))}</p>
<dl><dt>cache</dt><dd>{outcome}</dd><dt>took</dt><dd id="took">{took * 1000:.1f} ms</dd>
<dt>made</dt><dd><span id="made">{escape(report["made"])}</span> at {made} UTC by {escape(report["by"])}</dd>
<dt>stored in</dt><dd><code id="cache-type">{escape(cache_type)}</code> for 60 s</dd></dl>
<div class="actions">{_form("/city", "Show", csrf, chooser)}{_form("/invalidate", "Invalidate", csrf)}</div>"""
    return _document(
        "Beaker on App Engine",
        f"""<header><h1>Beaker on App Engine</h1><p>sessions and cached functions, live</p></header>
<div class="grid">
{_card("visitor", "Visitor", who)}
{_card("session", "Session", visited)}
{_card("cart", f"Cart ({sum(cart.values())})", bought)}
{_card("lookup", "Slow lookup", looked_up)}
</div>
<footer>Platform <code id="platform">{escape(platform)}</code>,
process <code id="instance">{escape(instance)}</code>.</footer>""",
    )
