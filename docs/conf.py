"""The site: ``make docs`` builds it into out/site; every warning is an error."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from kdsim._version import __version__  # noqa: E402

project = "kdsim"
author = "The developers of kdsim"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads this name
release = version = __version__

extensions = [
    "gallery",
    "myst_nb",
    "mathml",
    "numpydoc",
    "scenario_fields",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_click",
]
exclude_patterns = ["_build", "_ext"]
templates_path: list[str] = []

html_theme = "furo"
html_title = f"kdsim {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Links inside the site and the repository; others need a network.
linkcheck_ignore = [r"https?://"]
# Dashes stay as typed: "--set" in a command's help is no dash.
smartquotes_action = "qe"
# Formulas are drawn without a network: MathML is what browsers draw by themselves.
html_math_renderer = "mathml"

# Notebooks carry their outputs; the tests execute them.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
numpydoc_show_class_members = False
autodoc_typehints = "none"
