"""How the sample's page looks and is used: on a phone, in light and dark, by keyboard, by a screen reader."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.visitor import DESKTOP, PHONE, Visitor

PICTURES = os.environ.get("BEAKER_SCREENSHOTS")
"""A directory that gets desktop.png and phone.png, too: docs/images has them for the README."""
LARGEST_PICTURE = 150_000
TOUCHABLE = 44

# What sticks out of the window to the right, and how wide the page thinks it is.
OVERFLOW = """
const wide = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > arguments[0] + .5);
return [document.documentElement.scrollWidth, innerWidth, wide.map(e => e.outerHTML.slice(0, 80))];
"""
# The contrast of every text with what is painted behind it (WCAG 2.2, 1.4.3), and of every control's edge (1.4.11).
CONTRASTS = """
const rgb = css => css.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) {
  const color = rgb(getComputedStyle(e).backgroundColor); if ((color[3] ?? 1) === 1) return color; }
  return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255]; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const found = [];
for (const e of document.body.querySelectorAll('*')) {
  const style = getComputedStyle(e);
  if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('option, .unseen'))
    found.push([e.outerHTML.slice(0, 60), 4.5, ratio(rgb(style.color), behind(e))]);
  if (e.matches('input:not([type=hidden]), select, button:not(.main)'))
    found.push([e.outerHTML.slice(0, 60), 3, ratio(rgb(style.borderTopColor), behind(e.parentElement))]);
}
return found;
"""


@pytest.mark.parametrize("name", ["", "Ann", "W" * 40])
def test_a_phone_scrolls_down_only(visitor: Visitor, name: str) -> None:
    """375 and 320 px wide nothing sticks out, signed in with the widest name or not; buttons fit a finger."""
    if name:
        visitor.sign_in(name)
    for width in (PHONE[0], 320):
        visitor.window(width, PHONE[1])
        visitor.open()
        assert visitor.driver.execute_script(OVERFLOW, width) == [width, width, []]
    for control in visitor.driver.find_elements(By.CSS_SELECTOR, "button, select, input:not([type=hidden])"):
        assert control.size["height"] >= TOUCHABLE, control.accessible_name
    visitor.picture("phone")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(visitor: Visitor, scheme: Literal["light", "dark"]) -> None:
    """Text has a contrast of 4.5 and controls' edges one of 3, before and after signing in, on a hit and a miss."""
    visitor.window(*DESKTOP, scheme=scheme)
    seen = list(visitor.driver.execute_script(CONTRASTS))
    visitor.sign_in("Ann")
    visitor.press("Invalidate")
    seen += visitor.driver.execute_script(CONTRASTS)
    visitor.picture(f"desktop-{scheme}")
    visitor.open("/nowhere")
    seen += visitor.driver.execute_script(CONTRASTS)
    assert len(seen) > 60
    assert [(what, needed, ratio) for what, needed, ratio in seen if ratio < needed] == []


def test_everything_has_a_name(visitor: Visitor) -> None:
    """Each control and each part of the page has a name of its own for a screen reader; headings go down in order."""
    controls = visitor.driver.find_elements(By.CSS_SELECTOR, "button, select, input:not([type=hidden])")
    names = [control.accessible_name for control in controls]
    assert sorted(names) == sorted({*names} - {""})
    assert {"Your name", "City", "Add one tea"} < set(names)
    parts = visitor.driver.find_elements(By.TAG_NAME, "section")
    assert [(part.aria_role, part.accessible_name.upper()) for part in parts] == [
        ("region", name) for name in ("VISITOR", "SESSION", "CART (0)", "SLOW LOOKUP")
    ]
    headings = visitor.driver.find_elements(By.CSS_SELECTOR, "h1, h2, h3")
    assert [heading.tag_name for heading in headings] == ["h1", "h2", "h2", "h2", "h2"]
    assert visitor.driver.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    """Tab goes through every control in reading order, each shows that it has the focus, Enter presses it."""
    expected = [
        control.accessible_name
        for control in visitor.driver.find_elements(By.CSS_SELECTOR, "button, select, input:not([type=hidden])")
    ]
    reached = []
    for _ in expected:
        visitor.driver.switch_to.active_element.send_keys(Keys.TAB)
        focused = visitor.driver.switch_to.active_element
        reached.append(focused.accessible_name)
        assert focused.value_of_css_property("outline-style") == "solid", reached[-1]
        assert focused.value_of_css_property("outline-width") == "3px", reached[-1]
    assert reached == expected
    visitor.driver.execute_script("window.left = true")
    visitor.button("Add one tea").send_keys(Keys.ENTER)
    visitor.arrive()
    assert visitor.cart["tea"] == 1


def test_the_pictures_of_the_readme(visitor: Visitor) -> None:
    """A desktop and a phone picture of a signed-in visitor, small enough for a repository."""
    visitor.sign_in("Ann")
    for good in ("coffee", "coffee", "tea"):
        visitor.press(f"Add one {good}")
    for name, (width, height) in {"desktop": DESKTOP, "phone": PHONE}.items():
        visitor.window(width, height)
        picture = visitor.picture(name)
        assert 5_000 < picture.stat().st_size < LARGEST_PICTURE
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, PICTURES)
