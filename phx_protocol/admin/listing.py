"""Search and sort lists, and show them a page at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import HttpRequest

#: rows of one page, as in Django's lists
ROWS = 100


def page_of(request: HttpRequest, rows: Sequence[Any], of: str) -> dict[str, Any]:
    """Return the template context of the page ``?p=`` of `rows`, or of the nearest page.

    `of` is the name of one row, such as "topic".
    """
    page: Page[Any] = Paginator(rows, ROWS).get_page(request.GET.get("p"))
    return {
        "page": page,
        "page_range": page.paginator.get_elided_page_range(page.number),
        "count": counted(len(rows), of),
    }


def counted(count: int, of: str) -> str:
    """Return the count with its noun: ``"1 topic"``, ``"2 topics"``."""
    return f"{count} {of}" if count == 1 else f"{count} {of}s"


def matches(query: str, *texts: str | None) -> bool:
    """Return whether each word of the query is in one of the texts, ignoring case."""
    found = [text.casefold() for text in texts if text]
    words = query.casefold().split()
    return all(any(word in text for text in found) for word in words)


@dataclasses.dataclass(frozen=True)
class Column:
    """A heading: `sorted` is "ascending", "descending" or "", `link` the value of ``?o=`` in its link."""

    label: str
    sorted: str = ""
    link: str = ""


def columns(order: str, offered: Iterable[tuple[str, list[str]]]) -> list[Column]:
    """Return the headings of `offered`: labels with their orders, such as ``["topic", "-topic"]``."""
    return [_column(order, label, orders) for label, orders in offered]


def _column(order: str, label: str, orders: list[str]) -> Column:
    if order not in orders:
        return Column(label, "", orders[0] if orders else "")
    direction = "descending" if order.startswith("-") else "ascending"
    return Column(label, direction, orders[orders.index(order) - 1])
