"""The promises of sessions, for every place they can live in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.session.proxy import SessionObject
from beaker.testing.session_harness import COOKIE, OTHER_SECRET, SECRET, Tab
from beaker.testing.session_lifecycle import SessionCourse

__all__ = ["OTHER_SECRET", "SECRET", "SessionContract", "Tab"]


class SessionContract(SessionCourse):
    """The whole suite: values and identity here, the rest in SessionCourse; see SessionHarness for its use."""

    # -- values ------------------------------------------------------------------------------------

    def test_saved_values_are_there_in_the_next_request(self, tab: Tab) -> None:
        """What one request saved the next one reads, with the same types."""
        import datetime
        import decimal

        values = {
            "n": 1,
            "t": (1, "two"),
            "when": datetime.date(2026, 1, 2),
            "d": decimal.Decimal("1.10"),
            "b": b"\0x",
            "ü": None,
        }
        tab.do(self.put(**values))
        assert tab.do(lambda s: {key: s[key] for key in values}) == values
        assert tab.do(lambda s: type(s["t"])) is tuple

    def test_what_is_not_saved_is_gone(self, tab: Tab) -> None:
        """Without save() and auto a change ends with its request, and a new session leaves no cookie."""
        tab.do(lambda s: s.__setitem__("a", 1))
        assert not tab.last.set_cookies
        tab.do(self.put(a=1))
        tab.do(lambda s: s.__setitem__("a", 2))
        assert tab.do(lambda s: s["a"]) == 1

    def test_auto_saves_what_changed(self, make: Callable[..., Tab]) -> None:
        """With auto a change is saved, nested ones too, and an empty new session is not."""
        tab = make(auto=True)
        tab.do(lambda s: s.get("a"))
        assert not tab.last.set_cookies
        tab.do(lambda s: s.__setitem__("a", {"list": [1]}))
        tab.do(lambda s: s["a"]["list"].append(2))
        assert tab.do(lambda s: s["a"]) == {"list": [1, 2]}

    def test_revert_goes_back(self, tab: Tab) -> None:
        """revert() brings back the values of the first access, and nothing is saved."""
        tab.do(self.put(a=[1]))

        def change(session: SessionObject) -> Any:
            session["a"].append(2)
            session["b"] = 1
            session.save()
            session.revert()
            return dict(session).get("a"), "b" in session

        assert tab.do(change) == ([1], False)
        assert tab.do(lambda s: (s["a"], "b" in s)) == ([1], False)

    def test_unserializable_value_names_its_path_and_writes_nothing(self, make: Callable[..., Tab]) -> None:
        """A value that cannot be stored raises UnserializableValue with the key path; the rest stays as it was."""
        from beaker.exceptions import UnserializableValue

        tab = make(serializer="json")
        tab.do(self.put(a=1))
        with pytest.raises(UnserializableValue, match=r"session\['cart'\]\[1\]"):
            tab.do(self.put(a=2, cart=[1, object()]))
        assert tab.do(lambda s: (s["a"], "cart" in s)) == (1, False)

    # -- identity ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "value", ["", "x", "A" * 71, "B" + "A" * 43, "AA" * 2000, "\xff\xfe", "../../etc", "a" * 64]
    )
    def test_a_made_up_cookie_is_a_new_session(self, tab: Tab, value: str) -> None:
        """An id the server did not issue is never adopted and raises nothing."""
        tab.cookies[COOKIE] = value
        assert tab.do(lambda s: (s.is_new, s.get("a"))) == (True, None)
        tab.do(self.put(a=1))
        assert tab.cookies[COOKIE] != value

    def test_a_forged_or_cut_cookie_is_a_new_session(self, tab: Tab) -> None:
        """Any changed character of a good cookie leaves a new session."""
        tab.do(self.put(a=1))
        good = tab.cookies[COOKIE]
        for at in range(0, len(good), 7):
            swapped = "A" if good[at] != "A" else "B"
            other = tab.copy()
            other.cookies[COOKIE] = good[:at] + swapped + good[at + 1 :]
            assert other.do(lambda s: (s.is_new, s.get("a"))) == (True, None)
            other.cookies[COOKIE] = good[:at]
            assert other.do(lambda s: (s.is_new, s.get("a"))) == (True, None)

    def test_odd_neighbours_do_not_hide_the_session(self, tab: Tab) -> None:
        """Malformed foreign cookies, and a tossed cookie of our name, leave the session readable."""
        tab.do(self.put(a=1))
        good = tab.cookies[COOKIE]
        for odd in ('a=b c; json={"a":1}', "foo", "a[b]=1", "=;;;", 'q="unclosed', f"{COOKIE}=garbage", "é=\xe9"):
            assert tab.copy().do_with_header(f"{odd}; {COOKIE}={good}", lambda s: s.get("a")) == 1

    def test_delete_ends_the_session(self, tab: Tab) -> None:
        """After delete() the response makes the browser drop the cookie, and a kept cookie opens nothing."""
        tab.do(self.put(a=1))
        thief = tab.copy()
        tab.do(lambda s: s.delete())
        assert COOKIE not in tab.cookies
        assert tab.do(lambda s: s.get("a")) is None
        if self.survives_delete:
            return
        assert thief.do(lambda s: (s.is_new, s.get("a"))) == (True, None)

    def test_invalidate_goes_on_with_another_id(self, tab: Tab) -> None:
        """invalidate() leaves an empty session with a new id; the old one opens nothing."""
        tab.do(self.put(a=1))
        thief = tab.copy()

        def renew(session: SessionObject) -> Any:
            before = session.id
            session.invalidate()
            session["b"] = 2
            session.save()
            return before != session.id, session.get("a")

        assert tab.do(renew) == (True, None)
        assert tab.do(lambda s: (s.get("a"), s["b"])) == (None, 2)
        if not self.survives_delete:
            assert thief.do(lambda s: s.get("a")) is None

    def test_regenerate_id_moves_the_data_and_kills_the_old_id(self, tab: Tab) -> None:
        """regenerate_id() keeps the values under a new id; the old cookie is dead, without a save() too."""
        tab.do(self.put(a=1))
        thief, before = tab.copy(), tab.do(lambda s: s.id)
        tab.do(lambda s: s.regenerate_id())
        assert tab.do(lambda s: (s["a"], s.id != before)) == (1, True)
        if not self.survives_delete:
            assert thief.do(lambda s: s.get("a")) is None

    def test_login_and_logout(self, tab: Tab) -> None:
        """login() names the user under a new id, logout() ends it; the cart of before the login comes along."""
        tab.do(self.put(cart=1))
        before = tab.copy()
        tab.do(lambda s: s.login("ann"))
        assert tab.do(lambda s: (s.user, s["cart"])) == ("ann", 1)
        during = tab.copy()
        tab.do(lambda s: s.logout())
        assert tab.do(lambda s: (s.user, s.get("cart"))) == (None, None)
        if not self.survives_delete:
            assert before.do(lambda s: s.get("cart")) is None
            assert during.do(lambda s: s.user) is None
