"""A headless Chromium and the deployed sample on the Datastore emulator, one of each for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.browser.visitor import SECONDS, Visitor
from tests.deployment import deployed
from tests.servers import missing

if TYPE_CHECKING:
    from gae.emulator import Emulator

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root's Chromium does not start with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    # Loopback only, whatever the browser would send to its vendor.
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing("chromium", "apt-get install chromium chromium-driver")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    # With its path given Selenium looks for no driver of its own.
    service = Service(executable_path=program("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(SECONDS)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def site(datastore_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the deployed sample."""
    with deployed(datastore_emulator, tmp_path_factory.mktemp("browser") / "upload") as served:
        yield served.url


@pytest.fixture
def visitor(chromium: webdriver.Chrome, site: str, tmp_path: Path) -> Iterator[Visitor]:
    """A new visitor on the sample's page, in a window of desktop size; ends with one empty window and no cookie."""
    visitor = Visitor(chromium, site, tmp_path)
    try:
        yield visitor
    finally:
        visitor.leave()
