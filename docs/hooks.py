"""What the site shows beside the pages of this folder (`mkdocs.yml` names this file).

The repository's other Markdown files become pages where they lie, notebooks are turned into
Markdown with the outputs they were stored with, every room of the package gets a page of its
docstrings, and Mermaid diagrams are drawn while the site is built. Links between Markdown files
are written as they work in the repository; here they are turned to where the pages went.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import mermaidx
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security_policy.md",
    "benchmarks/README.md": "benchmarks.md",
    "weights/README.md": "weights.md",
    "weights/phantom_attention/README.md": "phantom_attention.md",
    "notebooks/README.md": "notebooks/index.md",
}
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
ROOMS = sorted(
    path.stem
    for path in (ROOT / "xray_captioning").iterdir()
    if not path.stem.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
)
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>(~?)([\w.]+)</code>")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages made here into the navigation, and draw what is fenced as Mermaid."""
    pages = {
        "Notebooks": ["notebooks/index.md", *(f"notebooks/{name}.md" for name in NOTEBOOKS)],
        "Reference": ["api/index.md", *({name: f"api/{name}.md"} for name in ROOMS)],
    }
    config.nav = [{k: pages.get(k, v) for k, v in entry.items()} for entry in config.nav or []]
    fence = {"name": "mermaid", "class": "mermaid", "format": _drawing}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in this folder."""
    for place, page in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / place)))
    for name in NOTEBOOKS:
        for page, content in _from_notebook(name).items():
            files.append(File.generated(config, page, content=content))
    for name in ROOMS:
        text = f"# {name}\n\n::: xray_captioning.{name}\n"
        text += "    options:\n      show_submodules: true\n      show_root_heading: false\n"
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turn links to files of the repository into links to their pages."""
    places = {page: place for place, page in ELSEWHERE.items()}
    uri = page.file.src_uri
    place = places.get(uri, uri if uri.startswith("notebooks/") else f"docs/{uri}")

    def turned(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        page_of_it = _page(path)
        if files.get_file_from_path(page_of_it):
            relative = posixpath.relpath(page_of_it, posixpath.dirname(uri) or ".")
            return f"{image}[{text}]({relative}{anchor})"
        # A file of the repository that is no page, such as a preset, is named without a link.
        return text if (ROOT / path).exists() else link[0]

    return LINK.sub(turned, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Translate what docstrings have in reST: references to names, numbered sources."""
    html = ROLE.sub(_reference, html)
    html = re.sub(r"<p>\.\. (\[\d+\])", r"<p>\1", html)
    return re.sub(r"(?:<br />)?\s*\.\. (\[\d+\])", r"<br>\1", html)


def _reference(role: re.Match[str]) -> str:
    hidden, name = role.groups()
    shown = name.rpartition(".")[2] if hidden else name
    return f'<autoref optional identifier="{name}"><code>{shown}</code></autoref>'


def _page(path: str) -> str:
    """Return where on the site a file of the repository stands, or would stand."""
    if path.startswith("notebooks/"):
        return ELSEWHERE.get(path, path.replace(".ipynb", ".md"))
    return ELSEWHERE.get(path, path.removeprefix("docs/"))


def _from_notebook(name: str) -> dict[str, str | bytes]:
    """Return a notebook's page and its pictures, by their place on the site."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:  # badges are pictures of other people's servers
        cell.source = re.sub(r"(?m)^\[!\[Open in .*\n?", "", cell.source)
    exporter, resources = MarkdownExporter(), {"unique_key": name}  # begins the pictures' names
    text, resources = exporter.from_notebook_node(notebook, resources)
    text = re.sub(r"<style.*?</style>\n?", "", text, flags=re.DOTALL)
    text = text.replace('<table border="1" class="dataframe">', "<table>")
    pictures = {f"notebooks/{k}": v for k, v in resources["outputs"].items()}
    return {f"notebooks/{name}.md": text, **pictures}


def _drawing(source: str, *_: Any, **__: Any) -> str:
    """Draw a Mermaid diagram as SVG, so that readers load no script for it."""
    spacing = '%%{init: {"flowchart": {"nodeSpacing": 20, "rankSpacing": 30}}}%%\n'
    return f'<div class="mermaid-drawing">{mermaidx.render(spacing + source).svg()}</div>'
