"""Settings of the documentation site: sphinx-build -W --keep-going -n docs docs/_build"""

from __future__ import annotations

import importlib
import re
from typing import Any

import ase_matprop

project = "ase_matprop"
author = "The ase_matprop developers"
copyright = author  # the name is Sphinx's
version = release = ase_matprop.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
highlight_language = "text"  # of blocks that do not say what they are: commands and output
html_theme = "furo"
html_title = "ase_matprop"
html_static_path: list[str] = []
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.header"]  # CHANGELOG.md and CONTRIBUTING.md begin below the heading of their page

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "exclude-members": "set_fit_request, set_score_request",  # scikit-learn writes them, for its own site
}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}  # all that it stands for fills lines
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

nitpicky = True
#: what is documented elsewhere: only names of this package can be wrong here
nitpick_ignore_regex = [(r"py:.*", r"(?!ase_matprop\.).*")]

#: links of pages to files that are in the repository, and not on the site
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./|(?=README|LICENSE))([^)#\s]*)(?:#[^)\s]*)?\)")


def setup(app: Any) -> None:
    app.connect("source-read", lambda app, name, source: source.__setitem__(0, _name_files(source[0])))
    app.connect("include-read", lambda app, path, parent, source: source.__setitem__(0, _name_files(source[0])))
    app.connect("autodoc-process-docstring", _mark_code)
    app.connect("missing-reference", _find_by_name)


def _name_files(text: str) -> str:
    """Write the path of a file of the repository instead of a link that the site does not have."""
    return _OUTSIDE.sub(lambda match: f"`{match[2]}`" if match[2] else match[1], text)


def _mark_code(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Mark indented paragraphs between others as code: the docstrings of modules show code so."""
    if what != "module":
        return
    found: list[str] = []
    for number, line in enumerate(lines):
        begins = line.startswith("    ") and number and not lines[number - 1].strip()
        before = next((text for text in reversed(found) if text.strip()), "")
        if begins and not before.startswith("    ") and not before.endswith("::"):
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def _exists(target: str) -> bool:
    """Return whether a full name of this package is right."""
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def _find_by_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a name of this package that is documented in another module than the one it is written in."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    name = target.rpartition(".")[2]
    owner = target.rpartition(".")[0].rpartition(".")[2]
    same = [full for full in domain.objects if full.rpartition(".")[2] == name]
    if owner[:1].isupper():  # a method or an attribute
        same = [full for full in same if full.split(".")[-2] == owner]
    elif not target.startswith("ase_matprop") and not name[:1].isupper():
        return None
    if not same:
        return contnode if _exists(target) else None  # private: nothing to link to, but no wrong name
    best = min(same, key=lambda full: (full.count("."), full))  # the shortest name is the one to import
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", best, node, contnode)
