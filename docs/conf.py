"""How scripts/docs builds these pages."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import beaker

project = "Beaker for App Engine and serverless"
author = "the Beaker-GAE contributors"
version = release = beaker.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Beaker {release}"
# No fonts, scripts or links of other hosts: the pages are read from a disk too.
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 3
myst_enable_extensions = ["fieldlist"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# What is not Beaker's own is not documented here, so a name of it leads nowhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!(beaker|gae)\.).*"),
    # Types of arguments that users do not make, and type variables.
    (
        "py:.*",
        r"beaker\.(session\.backends\.SessionBackend|session\.values\.ValueCodec|caching\.decorated(_async)?\.[A-Z]\b"
        r"|caching\.settings\.Settings|caching\.decorator\.Decorator|caching\.factory\.S"
        r"|operations\.report\.Report|storage\.datastore\.ndb_model)",
    ),
    ("py:.*", r"gae\.functions\.F"),
]
