"""A page for operators: what this instance has counted, what it runs with, what is wrong; and two buttons.

::

    guard     who a request comes from, if it may
    forms     what a button sends, and that the page itself sent it
    history   the last hour of each region
    facts     what the page shows, taken at one moment
    actions   what the buttons do
    page      the page as HTML
    site      the WSGI application, and its place in front of another one

Nothing here is imported unless a console was asked for. It shows names of the program (regions, namespaces, types)
and numbers, never an id, a key, a value or a cookie.
"""

from gae.console.site import Console, Mounted
from gae.console_options import ConsoleOptions

__all__ = ["Console", "ConsoleOptions", "Mounted"]
