"""Trees of HTML: text is escaped where the tree is written, so no text can become a tag."""

from __future__ import annotations

import re
from typing import TypeAlias
from xml.etree import ElementTree

Element: TypeAlias = ElementTree.Element

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def tag(name: str, /, *children: Element | str | None, **attributes: object) -> Element:
    """Make an element.

    Parameters
    ----------
    name : str
        Such as ``td``.
    *children : Element, str or None
        In their order; None is left out.
    **attributes
        ``class_`` is written ``class``, ``aria_label`` ``aria-label``; None is left out.

    Returns
    -------
    Element

    Examples
    --------
    >>> page(tag("p", "1 < 2", class_="note"), "", "")[-38:]
    '<p class="note">1 &lt; 2</p></body></html>'
    """
    element = ElementTree.Element(name)
    for key, value in attributes.items():
        if value is not None:
            element.set(key.rstrip("_").replace("_", "-"), _clean(str(value)))
    for child in children:
        if isinstance(child, str):
            _append(element, _clean(child))
        elif child is not None:
            element.append(child)
    return element


def page(body: Element, title: str, style: str) -> str:
    """Write a whole page that needs nothing from anywhere.

    Parameters
    ----------
    body : Element
        Goes into the body.
    title : str
    style : str
        CSS of the project's own: it is written as it is.

    Returns
    -------
    str
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Whatever a text may hold, the page loads and runs nothing.
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
        tag("title", title),
        tag("style", style),
    )
    tree = tag("html", head, tag("body", body), lang="en")
    return "<!doctype html>\n" + ElementTree.tostring(tree, "unicode", method="html")


def table(
    header: list[Element | str], rows: list[list[Element | str]], **attributes: object
) -> Element:
    """Make a table that scrolls sideways in a narrow window; the first column names the row."""
    names = tag("tr", *(tag("th", cell, scope="col") for cell in header))
    lines = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    whole = tag("table", tag("thead", names), tag("tbody", *lines), **attributes)
    return tag("div", whole, class_="wide", tabindex="0")


def _append(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def _clean(text: str) -> str:
    return _CONTROL.sub("�", text)
