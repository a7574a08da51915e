"""Sphinx: the documentation, whose reference pages and pictures are written from the code when it is built."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402

import shapewright  # noqa: E402

project = "Shapewright"
author = "the Shapewright authors"
copyright = "the Shapewright authors, Apache-2.0"
release = version = shapewright.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "generated", "pictures"]
html_theme = "furo"
html_title = f"Shapewright {version}"
html_static_path: list[str] = []
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2b57cf", "color-brand-content": "#2b57cf"},
    "dark_css_variables": {"color-brand-primary": "#8fb0ff", "color-brand-content": "#8fb0ff"},
}
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# The code says what a field is in a string below it, and what a function raises in prose.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpicky = False


def setup(app):
    """Write what is generated before anything is read; with ``-t quick`` pictures that are missing stay blank."""
    if generate.write_all(HERE, quick=app.tags.has("quick")):
        app.tags.add("studio_pictures")
    else:
        # Screenshots need Chromium; where there is none their place is left out, and Sphinx need not miss them.
        app.config.suppress_warnings = [*app.config.suppress_warnings, "image.not_readable"]
