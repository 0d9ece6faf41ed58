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
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5d677c; --line: #dfe3ea; --card: #fff; --back: #f4f5f8;
  --accent: #2f5fd0; --good: #1c7c4a; --slow: #a4580e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ecf3; --soft: #9aa5ba; --line: #333b4c; --card: #1c2230;
  --back: #12161f; --accent: #7ea2ff; --good: #63c690; --slow: #e5a35b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline; margin-bottom: 1rem; }
h1 { font-size: 1.6rem; margin: 0; letter-spacing: -.01em; }
header p, footer { color: var(--soft); margin: 0; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.1rem 1.2rem; }
h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; color: var(--soft); margin: 0 0 .6rem; }
p { margin: .3rem 0 .8rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .2rem 1rem; margin: 0 0 .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
form { display: inline-flex; flex-wrap: wrap; gap: .5rem; margin: 0 .3rem .4rem 0; }
input[type=text], select { font: inherit; padding: .45rem .7rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--back); color: inherit; min-width: 0; flex: 0 1 9rem; width: 9rem; }
button { font: inherit; padding: .45rem .9rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--back); color: inherit; cursor: pointer; }
button:hover, button:focus-visible { border-color: var(--accent); }
button.main { background: var(--accent); border-color: var(--accent); color: var(--card); }
.big { font-size: 1.5rem; margin: 0 0 .2rem; }
.hit { color: var(--good); font-weight: 600; } .miss { color: var(--slow); font-weight: 600; }
footer { margin-top: 1.2rem; font-size: .9rem; } code { font-size: .92em; }
"""


def _document(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def message(title: str, text: str) -> str:
    """A page that says one thing and leads back."""
    return _document(title, f'<section><h1>{escape(title)}</h1><p>{escape(text)}</p><a href="/">Back</a></section>')


def _form(path: str, label: str, csrf: str, fields: str = "", main: bool = False) -> str:
    kind = ' class="main"' if main else ""
    token = f'<input type="hidden" name="csrf" value="{escape(csrf)}">'
    return f'<form method="post" action="{path}">{token}{fields}<button{kind}>{escape(label)}</button></form>'


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
        name = '<input type="text" name="name" placeholder="Your name" aria-label="Your name" maxlength="40" required>'
        who = "<p>You are not signed in.</p>" + _form("/sign-in", "Sign in", csrf, name, main=True)
    else:
        who = f'<p class="big" id="user">{escape(str(user))}</p>' + _form("/sign-out", "Sign out", csrf)
    who += _form("/regenerate", "New session id", csrf)
    total = sum(cart.values())
    rows = "".join(f'<dt>{escape(good)}</dt><dd id="cart-{good}">{count}</dd>' for good, count in cart.items())
    buttons = "".join(
        _form("/cart/add", f"+ {good}", csrf, f'<input type="hidden" name="good" value="{good}">') for good in cart
    )
    options = "".join(f"<option{' selected' if name == city else ''}>{escape(name)}</option>" for name in cities)
    chooser = f'<select name="city" aria-label="City">{options}</select>'
    outcome = '<span class="hit" id="cache">hit</span>' if hit else '<span class="miss" id="cache">created now</span>'
    made = time.strftime("%H:%M:%S", time.gmtime(report["at"]))
    return _document(
        "Beaker on App Engine",
        f"""<header><h1>Beaker on App Engine</h1><p>sessions and cached functions, live</p></header>
<div class="grid">
<section><h2>Visitor</h2>{who}</section>
<section><h2>Session</h2><dl><dt>visits</dt><dd id="visits">{visits}</dd>
<dt>last seen</dt><dd id="last-seen">{_ago(last_seen)}</dd></dl>
<p>Stored in <code id="session-type">{escape(session_type)}</code>; your browser holds a cookie only.</p></section>
<section><h2>Cart ({total})</h2><dl>{rows}</dl>{buttons}{_form("/cart/empty", "Empty", csrf)}</section>
<section><h2>Slow lookup</h2><p class="big">{escape(city)}: {escape(str(report["text"]))}</p>
<dl><dt>cache</dt><dd>{outcome}</dd><dt>took</dt><dd id="took">{took * 1000:.1f} ms</dd>
<dt>made</dt><dd><span id="made">{escape(report["made"])}</span> at {made} UTC by {escape(report["by"])}</dd></dl>
{_form("/city", "Show", csrf, chooser)}{_form("/invalidate", "Invalidate", csrf)}
<p>Kept for 60 s in <code id="cache-type">{escape(cache_type)}</code>.</p></section>
</div>
<footer>Platform <code id="platform">{escape(platform)}</code>,
process <code id="instance">{escape(instance)}</code>.</footer>""",
    )
