"""Mako templates whose parts Beaker caches: whole pages, blocks, by region, in files."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from mako import exceptions
from mako.ext import beaker_cache
from mako.template import Template

from beaker.cache import CacheManager


@pytest.fixture(autouse=True)
def _no_manager_yet() -> None:
    # The plug-in keeps the first template's manager for all.
    beaker_cache._beaker_cache = None


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_cached_page(where: str, tmp_path: Path) -> None:
    """A page is rendered once, and again after it was invalidated."""
    calls = count(1)
    page = f'<%page cached="True" cache_type="{where}" cache_timeout="60" />${{next(calls)}}'
    template = Template(page, uri="/page", cache_impl="beaker", cache_args={"dir": str(tmp_path)})
    assert [template.render(calls=calls).strip() for _ in range(3)] == ["1", "1", "1"]
    template.cache.invalidate_body()
    assert template.render(calls=calls).strip() == "2"


def test_blocks_by_region(tmp_path: Path) -> None:
    """A block names a region of the manager it is given, also where compiled templates go into a directory."""
    manager = CacheManager(
        type="memory", regions="short", **{"short.type": "file", "short.data_dir": str(tmp_path / "c")}
    )
    calls = count(1)
    template = Template(
        '<%block name="b" cached="True" cache_region="short">${next(calls)}</%block>',
        uri="/blocks",
        module_directory=str(tmp_path / "modules"),
        cache_impl="beaker",
        cache_args={"manager": manager},
    )
    assert [template.render(calls=calls).strip() for _ in range(2)] == ["1", "1"]


def test_an_error_is_the_templates_own() -> None:
    """What a cached block raises reaches the page's reader, and the next call renders anew."""
    template = Template('<%page cached="True"/>${1 / n}', uri="/error", cache_impl="beaker")
    with pytest.raises(ZeroDivisionError):
        template.render(n=0)
    assert "ZeroDivisionError" in exceptions.text_error_template().render(error=ZeroDivisionError(), traceback=None)
    assert template.render(n=1).strip() == "1.0"
