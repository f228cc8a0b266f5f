"""Sphinx's settings. The pages are Markdown, and are read on GitHub as well."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()  # autodoc imports what needs it

from phx_protocol import __version__  # noqa: E402

project = "phx_protocol"
author = "the authors of phx_protocol"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
# Pygments takes generics for tags; that blocks are right tests/docs/test_code_blocks.py sees
suppress_warnings = ["misc.highlighting_failure"]

myst_heading_anchors = 3  # links such as operate.md#restarts, as GitHub makes them

smartquotes = False  # what is quoted is mostly what one types
# what the docstrings have in single backticks is code
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
# -n asks where every name in a signature is documented: only ours are
nitpick_ignore_regex = [(r"py:.*", r"(?!phx_protocol\b).*")]
# type variables, what a Presence class looks like to a channel, what makes the attribute ``sync``, and
# what the log sets
nitpick_ignore = [
    ("py:class", "phx_protocol.changes.M"),
    ("py:class", "phx_protocol.users.queries.User"),
    ("py:class", "phx_protocol.socket.events.Function"),
    ("py:class", "phx_protocol.socket.channel.PresenceClass"),
    ("py:class", "phx_protocol.layers.direct.DirectChannel"),
    ("py:class", "phx_protocol.layers.direct.Listener"),
    ("py:class", "phx_protocol.layers.loop_layer.LoopLayer"),
    ("py:class", "phx_protocol.presence.presence._Sync"),
    ("py:class", "phx_protocol.signals._Log"),
]

html_theme = "furo"
html_title = f"phx_protocol {__version__}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
