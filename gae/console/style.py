"""How the page looks, and the policy that lets a browser use this style and nothing else."""

from __future__ import annotations

import base64
import hashlib

__all__ = ["HEADERS", "STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b2230; --soft: #566076; --line: #e1e5ec; --edge: #8189a0; --card: #fff;
  --back: #f4f5f8; --accent: #2f5fd0; --good: #1b7346; --warn: #98510d; --bad: #b3261e; --bar: #3f6fdd;
  --bar2: #c2701c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ecf3; --soft: #a2abbf; --line: #2c3445; --edge: #727c93;
  --card: #1a202d; --back: #11151d; --accent: #8fb0ff; --good: #63c690; --warn: #e5a35b; --bad: #ff9d94;
  --bar: #7ea2ff; --bar2: #e2a05a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  sans-serif; font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
  overflow-wrap: anywhere; }
main { max-width: 76rem; margin: 0 auto; padding: 1.75rem 1.5rem 3rem; display: grid; gap: 1.25rem;
  grid-template-columns: minmax(0, 1fr); }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; align-items: baseline; justify-content: space-between; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; letter-spacing: -.015em; }
header p { margin: .15rem 0 0; color: var(--soft); }
h2 { font-size: 1.05rem; line-height: 1.3; margin: 0; }
h3 { font-size: .85rem; margin: 1rem 0 .25rem; color: var(--soft); font-weight: 600; }
p { margin: 0; overflow-wrap: anywhere; }
a { color: var(--accent); }
.hint { color: var(--soft); font-size: .87rem; max-width: 75ch; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); margin: 0; }
.tiles > div { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: .8rem 1rem .85rem; }
dt { color: var(--soft); font-size: .82rem; }
dd { margin: 0; }
dd.big { font-size: 1.55rem; font-weight: 600; line-height: 1.25; letter-spacing: -.02em; }
dd.sub { color: var(--soft); font-size: .82rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1.1rem 1.25rem 1.2rem;
  min-width: 0; display: grid; grid-template-columns: minmax(0, 1fr); gap: .6rem; align-content: start; }
.pair { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.title { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; justify-content: space-between; }
table { width: 100%; border-collapse: collapse; }
th { font-weight: 600; font-size: .8rem; color: var(--soft); text-align: left; vertical-align: bottom;
  padding: .3rem .75rem .35rem 0; border-bottom: 1px solid var(--line); }
td, tbody th { padding: .6rem .75rem .6rem 0; vertical-align: top; text-align: left; overflow-wrap: anywhere;
  border-bottom: 1px solid var(--line); }
tbody th { font-size: 1em; color: inherit; }
tr > :last-child { padding-right: 0; }
tbody tr:last-child > * { border-bottom: 0; padding-bottom: 0; }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.sub { display: block; color: var(--soft); font-size: .82rem; font-weight: 400; }
.strong { font-weight: 600; font-size: 1.1rem; line-height: 1.35; }
.soft { color: var(--soft); font-weight: 400; margin-left: .35rem; font-size: .87rem; }
.hour { padding-left: 1.25rem; }
.act { text-align: right; } .act div { display: inline-block; }
details details { margin-top: .4rem; }
.options td, .options tbody th { padding-block: .3rem; font-size: .9rem; font-weight: 400; }
.options th:first-child { width: 26%; } .options th:nth-child(2) { width: 36%; }
code { font: .92em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: .3rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.5 ui-monospace, SFMono-Regular,
  Menlo, Consolas, monospace; color: var(--soft); }
svg { display: block; width: 180px; max-width: 100%; height: 34px; }
.hits { fill: var(--bar); } .misses { fill: var(--bar2); } .axis { fill: var(--edge); }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin: 0 .3em 0 .6em; }
.key.hits { background: var(--bar); } .key.misses { background: var(--bar2); }
button { font: inherit; font-size: .9rem; min-height: 2.75rem; padding: .3rem .9rem; color: var(--ink); cursor: pointer;
  border: 1px solid var(--edge); border-radius: .5rem; background: var(--back); white-space: nowrap; }
button:hover { border-color: var(--accent); color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.notice { border-left: .3rem solid var(--good); font-weight: 600; padding-block: .8rem; }
.notice.bad { border-left-color: var(--bad); }
ul.findings { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem; }
.badge { display: inline-block; font-size: .74rem; font-weight: 700; letter-spacing: .03em; text-transform: uppercase;
  margin-right: .5rem; }
.error { color: var(--bad); } .warning { color: var(--warn); } .note { color: var(--soft); }
.good { color: var(--good); }
details { min-width: 0; }
summary { cursor: pointer; color: var(--accent); padding: .2rem 0; width: fit-content; }
td details, tbody th details { font-size: .85rem; font-weight: 400; }
.names { list-style: none; margin: .2rem 0 0; padding: 0; color: var(--soft); font-size: .85rem; font-weight: 400; }
.names li { padding: .1rem 0; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
footer { color: var(--soft); font-size: .85rem; }
@media (max-width: 46rem) {
  main { padding: 1.1rem .75rem 2rem; gap: .9rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .tiles > div { padding: .65rem .8rem .7rem; }
  dd.big { font-size: 1.35rem; }
  section { padding: .95rem .9rem 1rem; }
  .pair { gap: .9rem; }
  table, tbody, tr, td, th { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { padding: .7rem 0; border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; padding-bottom: 0; }
  td, tbody th, tbody tr:last-child > * { border: 0; padding: .12rem 0; }
  tbody th { font-size: 1.05rem; padding-bottom: .3rem; }
  td[data-label] { display: grid; grid-template-columns: 7.5rem minmax(0, 1fr); gap: .5rem; text-align: left;
    white-space: normal; align-items: baseline; }
  td[data-label]::before { content: attr(data-label); color: var(--soft); font-size: .85rem; }
  .strong { font-size: 1em; }
  td.hour { align-items: start; padding: .35rem 0 0; }
  td.act { padding-top: .5rem; } td.act div { display: block; }
  td.act button { width: 100%; } summary { padding: .45rem 0; }
  .options td[data-label] { grid-template-columns: 4.5rem minmax(0, 1fr); }
  .options th:first-child, .options th:nth-child(2) { width: auto; }
}
"""

_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = [
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'",
    ),
    # For browsers that do not know frame-ancestors.
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("X-Robots-Tag", "noindex"),
]
"""Of every response, refusals included."""
