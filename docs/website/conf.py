"""Sphinx's settings for the site: Markdown, a theme that brings all it shows, nothing from elsewhere."""

import importlib.metadata

project = "p2pnet"
release = importlib.metadata.version("p2pnet")  # not `version`, which is a setting
extensions = ["myst_parser"]
exclude_patterns = ["_extra"]
html_extra_path = ["../../build/docs-source/_extra"]  # of docs/website; generate.py fills it
html_theme = "furo"
html_title = f"p2pnet {release}"
html_copy_source = False
html_use_index = False
smartquotes = False  # "--seed" stays as it is typed
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 6  # as GitHub makes them, so that one link serves both
