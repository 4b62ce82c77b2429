"""A document as one HTML file that holds all it needs, its pictures too; texts are text in it, whatever they hold."""

import base64
from collections.abc import Mapping

from r4r.report.case_page import Html, content_hash, element
from r4r.report.text import Document, Grid, Text

STYLE = Html(
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:0 auto;"
    "padding:1rem 1.5rem 4rem}h1{font-size:1.5rem}h2{font-size:1.15rem}div{overflow-x:auto}"
    "table{border-collapse:collapse;border-block:2px solid;font-variant-numeric:tabular-nums}"
    "thead{border-bottom:1px solid}th,td{padding:.15rem .7rem;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%;height:auto;background:#fff}"
    "li{overflow-wrap:anywhere}"
)


def page(document: Document, pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        pictures: what they show -> PNG.
    """
    policy = (
        f"default-src 'none'; style-src '{content_hash(STYLE)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", document.title),
        element("style", STYLE),
    )
    body = element(
        "body",
        element("h1", document.title),
        element("p", "Command: ", element("code", document.command)),
        *(part for grid in document.grids for part in (element("h2", grid.caption), _table(grid))),
        *(_picture(name, content) for name, content in pictures.items()),
        *(
            part
            for title, sentences in (("Missing", document.problems), ("Notes", document.notes))
            if sentences
            for part in (element("h2", title), element("ul", *(element("li", s, dir="auto") for s in sentences)))
        ),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _table(grid: Grid) -> Html:
    head = element("thead", element("tr", *(element("th", header, scope="col") for header in grid.headers)))
    lines = [element("tr", *(element("td", _cell(cell)) for cell in line)) for line in grid.lines]
    return element("div", element("table", head, element("tbody", *lines)))


def _cell(cell: Text) -> Html | str:
    return element("b", cell.text) if cell.bold else element("u", cell.text) if cell.underlined else cell.text


def _picture(name: str, content: bytes) -> Html:
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return element("p", element("img", src=source, alt=name))
