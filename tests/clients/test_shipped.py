"""Living clients of Beaker, unmodified: their own shipped tests pass on the installed wheel of this checkout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.clients.environments import HERE, Client

TURBOGEARS = (
    "balanced_session",
    "caching",
    "configuration",
    "controllers",
    "errorware",
    "expose_allowed_methods",
    "hooks",
    "predicates",
    "rest_controller_dispatch",
    "tg_controller_dispatch",
    "validation",
)
"""TurboGears' test modules whose applications have sessions and caches on, or which configure them."""
TURBOGEARS_LEFT_OUT = (
    # Need files of its repository that are not in the source archive.
    "test_make_app_with_appglobals_submodule",
    "test_make_app_with_helpers_submodule",
    # Need raven, an error reporter.
    "test_enable_sentry",
)


def test_pyramid_beakers_own_tests(client: Callable[[str], Client], tmp_path: Path) -> None:
    """pyramid_beaker 0.9: the 36 tests inside its package."""
    pyramid = client("pyramid")
    told = pyramid.pytest("--pyargs", "pyramid_beaker.tests", cwd=tmp_path)
    assert told.startswith("36 passed"), told
    assert "failed" not in told


def test_turbogears_own_tests(client: Callable[[str], Client], tmp_path: Path) -> None:
    """TurboGears2 2.5.1 with sessions and caches on: the tests of its source archive in this field."""
    turbogears = client("turbogears")
    assert turbogears.source is not None
    shutil.copytree(turbogears.source / "tests", tmp_path / "tests")
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copy(HERE / "turbogears" / "base.py", tmp_path / "tests")
    chosen = [tmp_path / "tests" / f"test_{name}.py" for name in TURBOGEARS]
    left_out = " or ".join(TURBOGEARS_LEFT_OUT)
    told = turbogears.pytest("-k", f"not ({left_out})", *chosen, cwd=tmp_path)
    assert told.startswith("453 passed"), told


def test_makos_own_tests(client: Callable[[str], Client], tmp_path: Path) -> None:
    """Mako 1.4: every test of its cache that Beaker's plug-in runs."""
    mako = client("mako")
    assert mako.source is not None
    shutil.copytree(mako.source / "test", tmp_path / "test")
    shutil.copy(mako.source / "setup.cfg", tmp_path)
    # The skipped ones are dogpile.cache's.
    told = mako.pytest("-o", "python_classes=*Test", tmp_path / "test" / "test_cache.py", cwd=tmp_path)
    assert told.startswith("44 passed, 23 skipped"), told


def test_corks_own_tests(client: Callable[[str], Client], tmp_path: Path) -> None:
    """bottle-cork 0.12: the tests of its source archive that concern Beaker and do not need nose, which is dead."""
    web = client("web")
    assert web.source is not None
    shutil.copytree(web.source / "tests", tmp_path / "tests")
    told = web.pytest(tmp_path / "tests" / "test_crypto.py", cwd=tmp_path)
    assert "passed" in told, told
