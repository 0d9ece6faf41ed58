"""A person with a browser: sees the sample's page, presses its buttons, opens tabs, looks at it on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
DESKTOP, PHONE = (1180, 730), (375, 812)

# A page left by a click is still there for a moment; a mark on it distinguishes it from the next page.
_MARK, _ARRIVED = "window.left = true", "return !window.left && document.readyState === 'complete'"


class Visitor:
    """One profile of ``driver`` without cookies, on ``site``'s page; screenshots go to ``folder``."""

    def __init__(self, driver: webdriver.Chrome, site: str, folder: Path) -> None:
        self.driver = driver
        self.site = site
        self.folder = folder
        self.window(*DESKTOP)
        self.open("/healthz")
        driver.delete_all_cookies()
        self.open()

    def open(self, path: str = "/") -> None:
        """Come to a page by its address."""
        self.driver.get(self.site + path)

    def leave(self) -> None:
        """Close all windows but one, and forget everything."""
        first, *others = self.driver.window_handles
        for handle in others:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.driver.delete_all_cookies()
        self.driver.get("about:blank")

    def tab(self, path: str = "/") -> str:
        """Open a page in another window of the same browser; returns its handle."""
        self.driver.switch_to.new_window("window")
        self.open(path)
        return self.driver.current_window_handle

    def shown(self, id: str) -> str | None:
        """The text of an element, ``None`` when the page has none."""
        found = self.driver.find_elements(By.ID, id)
        return found[0].text if found else None

    @property
    def cart(self) -> dict[str, int]:
        return {good: int(self.shown(f"cart-{good}") or -1) for good in ("coffee", "tea", "honey")}

    def button(self, text: str) -> WebElement:
        """The only button with this accessible name."""
        buttons = self.driver.find_elements(By.TAG_NAME, "button")
        (found,) = [button for button in buttons if button.accessible_name == text]
        return found

    def press(self, text: str) -> None:
        """Press a button and wait for the page it leads to."""
        button = self.button(text)
        self.driver.execute_script(_MARK)
        button.click()
        self.arrive()

    def back(self) -> None:
        """The browser's back button."""
        self.driver.execute_script(_MARK)
        self.driver.execute_script("history.back()")
        self.arrive()

    def arrive(self) -> None:
        """Wait until the next page is there."""
        self.wait(_ARRIVED)

    def wait(self, script: str) -> None:
        """Wait until a script returns true."""
        WebDriverWait(self.driver, SECONDS, poll_frequency=0.05).until(lambda driver: driver.execute_script(script))

    def sign_in(self, name: str) -> None:
        field = self.driver.find_element(By.ID, "name")
        assert field.accessible_name == "Your name"
        field.send_keys(name)
        self.press("Sign in")

    @property
    def cookie(self) -> dict[str, Any]:
        """The session's cookie, the only one."""
        (cookie,) = self.driver.get_cookies()
        return cookie

    def window(self, width: int, height: int, *, scheme: Literal["light", "dark"] = "light") -> None:
        """Look at the page in this size; below 600 px like a phone: touch, and a viewport that overflow widens."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def picture(self, name: str) -> Path:
        """Save what is to be seen as ``NAME.png``."""
        path = self.folder / f"{name}.png"
        assert self.driver.save_screenshot(path)
        return path
