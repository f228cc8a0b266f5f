"""The lists of what is live: searched, sorted, a page at a time, and their scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils.deprecation import MiddlewareMixin

from phx_protocol import introspection as look
from tests.admin.conftest import Open, Staff, html, joined, rows
from tests.admin.pages import LIST, url
from tests.support.servers import ROOT

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.admin.urls"),
]


async def names(client: Any, query: str = "") -> list[str]:
    return [row[0] for row in rows(await client.get(LIST + query), "topics")]


async def test_a_search_finds_topics_with_all_its_words_in_any_case(
    open: Open, staff: Staff
) -> None:
    await open("room:Straße", "room:b", "doc:b")
    client = await staff("view_topic")
    assert await names(client, "?q=STRASSE") == ["room:Straße"]
    assert await names(client, "?q=b+room") == ["room:b"]
    assert await names(client, "?q=%25") == []
    assert "No topic matches." in html(await client.get(LIST + "?q=nowhere"))


async def test_the_list_is_sorted_as_its_headings_offer(
    open: Open, staff: Staff
) -> None:
    await open("b:crowd", "a:pair")
    await open("b:crowd", "a:pair")
    await open("b:crowd")
    loud = await joined(open, "c:loud")
    for _ in range(50):
        await loud.push("nonsense", {})
    client = await staff("view_topic")
    by_name = ["a:pair", "b:crowd", "c:loud"]
    assert await names(client) == by_name
    assert await names(client, "?o=-topic") == by_name[::-1]
    assert await names(client, "?o=-subscribers") == ["b:crowd", "a:pair", "c:loud"]
    assert await names(client, "?o=subscribers") == ["c:loud", "a:pair", "b:crowd"]
    assert (await names(client, "?o=-rate"))[0] == "c:loud"
    assert await names(client, "?o=presences") == by_name  # not offered

    page = html(await client.get(LIST + "?o=-subscribers&q=a"))
    assert 'class="sorted descending" aria-sort="descending"' in page
    assert "?o=subscribers&amp;q=a" in page and "?o=topic&amp;q=a" in page


async def test_only_the_topics_of_the_page_that_is_shown_are_asked_about(
    open: Open, staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def describe_topics(topics: list[str]) -> Any:
        asked.append(topics)
        return describe(topics)

    describe = look.describe_topics
    monkeypatch.setattr(look, "describe_topics", describe_topics)
    monkeypatch.setattr("phx_protocol.admin.listing.ROWS", 2)
    await open("a", "b", "c", "d", "e")
    client = await staff("view_topic")
    assert await names(client) == ["a", "b"]
    assert await names(client, "?p=3") == ["e"]
    assert await names(client, "?p=99") == ["e"]
    assert await names(client, "?p=x") == ["a", "b"]
    assert asked == [["a", "b"], ["e"], ["e"], ["a", "b"]]
    assert "5 topics" in html(await client.get(LIST))


class WithNonce(MiddlewareMixin):
    """As django-csp, and with another name Django itself."""

    def process_request(self, request: Any) -> None:
        request.csp_nonce = "r4nd0m"


async def test_every_script_of_ours_has_the_nonce_of_the_request(
    staff: Staff, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.WithNonce"]
    client = await staff("view_topic")
    for address in (LIST, url("change", "room:a")):
        page = html(await client.get(address))
        ours = re.findall(r"<script[^>]*phx_protocol/[^>]*>", page)
        assert ours and all('nonce="r4nd0m"' in script for script in ours)


def test_no_template_has_a_script_without_a_nonce() -> None:
    for template in (ROOT / "phx_protocol/templates").rglob("*.html"):
        for script in re.findall("<script.*?>", template.read_text()):
            assert "{% phx_nonce_attribute %}" in script, template
