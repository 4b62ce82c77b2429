"""How a case, a rating and an explanation show themselves in a notebook: tables and text, whatever they hold."""

from datetime import UTC, datetime

from r4r.report.case_page import Html, element
from r4r.serve.cases import Explanation, Past, Rating, ServedCase

STYLE = "max-width: 60rem; line-height: 1.4; text-align: left"
CELL = "text-align: left; vertical-align: top; white-space: pre-line; overflow-wrap: anywhere"
BAR = "display: inline-block; height: .8em; background: currentColor; opacity: .6; width: {:.1f}em"


def case_html(case: ServedCase) -> str:
    """Both histories, side by side with what the experts read of them."""
    return str(element("div", *_case(case), style=STYLE))


def rating_html(rating: Rating) -> str:
    """The distribution as bars, and its mean, median and mode."""
    return str(element("div", *_rating(rating), style=STYLE))


def explanation_html(said: Explanation) -> str:
    """The reason and the rating, with the case folded away."""
    reason = "(rated without a reason)" if said.reason is None else said.reason or "(an empty reason)"
    return str(
        element(
            "div",
            element("h4", f"{said.label}: {said.case.case.title}", dir="auto"),
            element("p", reason, dir="auto", style="white-space: pre-line"),
            *_rating(said.rating),
            element("details", element("summary", "Histories"), *_case(said.case)),
            style=STYLE,
        )
    )


def _case(case: ServedCase) -> list[Html]:
    who = f"user {case.user_id}" if case.user_id else "a new user"
    what = f"item {case.item_id}" if case.item_id else "a new item"
    facts = [who, what, f"at {_day(case.at)}" if case.at is not None else "at any time"]
    facts += [] if case.actual is None else [f"really rated {case.actual:g}"]
    parts = [element("p", element("b", case.case.title, dir="auto"), " · " + " · ".join(facts), dir="auto")]
    for name, entries, count, mean in (
        ("User's history", case.user, case.user_count, case.case.user_average),
        ("Item's history", case.item, case.item_count, case.case.item_average),
    ):
        average = "" if mean is None else f", mean rating {mean:.2f}"
        shown = sum(entry.rating is not None for entry in entries)
        parts.append(element("p", element("b", name), f": {shown} of {count} earlier reviews{average}"))
        parts.append(_table(entries))
    return parts


def _table(entries: tuple[Past, ...]) -> Html:
    head = element("tr", *(element("th", name, scope="col", style=CELL) for name in ("", "title", "rating", "shown")))
    lines = [
        element(
            "tr",
            element("td", "" if entry.timestamp is None else _day(entry.timestamp), style=CELL),
            element("td", entry.title, style=CELL, dir="auto"),
            element("td", "" if entry.rating is None else f"{entry.rating:g}", style=CELL),
            element("td", entry.shown, style=CELL, dir="auto", title=entry.review),
        )
        for entry in entries
    ]
    return element("table", element("thead", head), element("tbody", *lines))


def _rating(rating: Rating) -> list[Html]:
    lines = [
        element(
            "tr",
            element("th", f"{value:g}", scope="row"),
            element("td", element("span", style=BAR.format(20 * chance)), f" {chance:.1%}", style=CELL),
        )
        for value, chance in zip(rating.values, rating.probabilities, strict=True)
    ]
    told = f" (median {rating.median:g}, mode {rating.mode:g})"
    return [element("p", "rating ", element("b", f"{rating.mean:.2f}"), told), element("table", *lines)]


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
