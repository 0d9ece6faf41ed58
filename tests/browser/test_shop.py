"""The deployed sample in Chromium: a visit, two tabs at once, a new id, a logout that the back button cannot undo."""

from __future__ import annotations

from tests.browser.visitor import Visitor

CLICKS = 25
FETCHES = 20

# Runs in every page of its tab: presses the button until the tab's own count is down, over as many pages. The page that
# the last press leads to says so to the other windows.
CLICKER = """
document.addEventListener('DOMContentLoaded', () => {
  const left = sessionStorage.getItem('left');
  if (left > 0) {
    sessionStorage.setItem('left', left - 1);
    [...document.querySelectorAll('button')].find(button => button.textContent === 'Add one coffee').click();
  } else if (left === '0') {
    localStorage.setItem(sessionStorage.getItem('tab'), 'done');
  }
});
"""
START = """
localStorage.clear(); sessionStorage.setItem('tab', arguments[0]); sessionStorage.setItem('left', arguments[1]);
"""
FETCH = """
const token = document.querySelector('input[name=csrf]').value;
window.answers = Promise.all(Array.from({length: arguments[0]}, () => fetch('/cart/add', {
  method: 'POST', body: new URLSearchParams({csrf: token, good: 'tea'}),
}).then(answer => answer.text().then(() => answer.status))));
"""
ANSWERS = "const done = arguments[0]; window.answers.then(done, error => done(String(error)));"


def test_a_visit(visitor: Visitor) -> None:
    """Visits are counted, a name is shown as typed, the cart fills and empties, a cached value stays until dropped."""
    assert visitor.shown("visits") == "1"
    assert visitor.shown("user") is None
    # The value that another test left may be about to expire.
    visitor.press("Invalidate")
    made = visitor.shown("made")
    visitor.sign_in("Ann <b>& Co</b>")
    assert visitor.shown("user") == "Ann <b>& Co</b>"
    assert visitor.shown("visits") == "3"
    for _ in range(3):
        visitor.press("Add one tea")
    visitor.press("Add one honey")
    assert visitor.cart == {"coffee": 0, "tea": 3, "honey": 1}
    assert (visitor.shown("cache"), visitor.shown("made")) == ("hit", made)
    visitor.press("Invalidate")
    assert visitor.shown("cache") == "created now"
    assert visitor.shown("made") != made
    visitor.open()
    assert visitor.shown("cache") == "hit"
    visitor.press("Empty the cart")
    assert visitor.cart == {"coffee": 0, "tea": 0, "honey": 0}
    assert visitor.shown("user") == "Ann <b>& Co</b>"


def test_the_cookie_is_closed(visitor: Visitor) -> None:
    """Only the session's cookie, unreadable for scripts, for https and this site only, gone with the browser."""
    cookie = visitor.cookie
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
    assert "expiry" not in cookie
    assert visitor.driver.execute_script("return document.cookie") == ""


def test_two_tabs_that_press_at_once(visitor: Visitor) -> None:
    """25 presses in each of two windows at the same time put 50 into the cart, and every page was a visit."""
    tabs = [visitor.tab(), visitor.tab()]
    before = int(visitor.shown("visits") or 0)
    for tab in tabs:
        visitor.driver.switch_to.window(tab)
        visitor.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CLICKER})
        visitor.driver.execute_script(START, tab, CLICKS)
    for tab in tabs:
        visitor.driver.switch_to.window(tab)
        visitor.driver.execute_script("setTimeout(() => location.reload())")
    # A page that goes away again and again cannot be asked; a third window of the same site can.
    visitor.tab("/healthz")
    visitor.wait("return localStorage.length === 2")
    visitor.open()
    assert visitor.cart == {"coffee": 2 * CLICKS, "tea": 0, "honey": 0}
    assert visitor.shown("visits") == str(before + 2 + 2 * CLICKS + 1)


def test_two_tabs_whose_scripts_post_at_once(visitor: Visitor) -> None:
    """20 requests in flight in each of two windows put 40 into the cart; every response is a 200."""
    tabs = [visitor.tab(), visitor.tab()]
    before = int(visitor.shown("visits") or 0)
    for tab in tabs:
        visitor.driver.switch_to.window(tab)
        # The page's own policy lets no script fetch anything.
        visitor.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
        visitor.open()
    for tab in tabs:
        visitor.driver.switch_to.window(tab)
        visitor.driver.execute_script(FETCH, FETCHES)
    for tab in tabs:
        visitor.driver.switch_to.window(tab)
        assert visitor.driver.execute_async_script(ANSWERS) == [200] * FETCHES
    visitor.open()
    assert visitor.cart == {"coffee": 0, "tea": 2 * FETCHES, "honey": 0}
    assert visitor.shown("visits") == str(before + 2 + 2 * FETCHES + 1)


def test_a_new_id_keeps_the_data_and_ends_the_old_cookie(visitor: Visitor) -> None:
    """The button changes the cookie; name and cart are there, and with the old cookie nothing is."""
    visitor.sign_in("Ann")
    visitor.press("Add one coffee")
    old = visitor.cookie
    visitor.press("New session id")
    new = visitor.cookie
    assert new["value"] != old["value"]
    assert (visitor.shown("user"), visitor.cart["coffee"]) == ("Ann", 1)

    visitor.driver.delete_all_cookies()
    visitor.driver.add_cookie(old)
    visitor.open()
    assert (visitor.shown("user"), visitor.cart["coffee"]) == (None, 0)

    visitor.driver.delete_all_cookies()
    visitor.driver.add_cookie(new)
    visitor.open()
    assert (visitor.shown("user"), visitor.cart["coffee"]) == ("Ann", 1)


def test_signing_in_changes_the_id(visitor: Visitor) -> None:
    """A cookie known before the sign-in is of no use after it."""
    visitor.press("Add one honey")
    known = visitor.cookie
    visitor.sign_in("Ann")
    assert visitor.cookie["value"] != known["value"]
    assert visitor.cart["honey"] == 1
    visitor.driver.delete_all_cookies()
    visitor.driver.add_cookie(known)
    visitor.open()
    assert (visitor.shown("user"), visitor.cart["honey"]) == (None, 0)


def test_after_signing_out_nothing_comes_back(visitor: Visitor) -> None:
    """The page, the back button, the other tab and the old cookie all show no user and an empty cart."""
    visitor.sign_in("Ann")
    visitor.press("Add one coffee")
    first = visitor.driver.current_window_handle
    other = visitor.tab()
    assert visitor.shown("user") == "Ann"
    visitor.driver.switch_to.window(first)
    old = visitor.cookie
    # An address of its own: what the browser may have kept of it is not replaced by the page after signing out.
    visitor.open("/?signed-in")
    assert visitor.shown("user") == "Ann"
    visitor.press("Sign out")
    assert (visitor.shown("user"), visitor.cart["coffee"]) == (None, 0)
    visitor.back()
    assert visitor.driver.current_url.endswith("/?signed-in")
    assert (visitor.shown("user"), visitor.cart["coffee"]) == (None, 0)

    visitor.driver.switch_to.window(other)
    visitor.press("Add one tea")
    assert "This form is out of date" in visitor.driver.page_source
    visitor.driver.delete_all_cookies()
    visitor.driver.add_cookie(old)
    visitor.open()
    assert (visitor.shown("user"), visitor.cart["coffee"]) == (None, 0)
