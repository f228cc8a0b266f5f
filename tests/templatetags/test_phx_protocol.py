"""The template tags: a token for the page's user, and the script tag that carries it."""

from __future__ import annotations

import re
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.urls import set_script_prefix
from django.utils.functional import SimpleLazyObject

from phx_protocol.tokens import user_token, verify


def render(options: str = "", tag: str = "phx_token", **context: Any) -> str:
    libraries = {"phx_protocol": "phx_protocol.templatetags.phx_protocol"}
    template = Engine(libraries=libraries).from_string(
        "{% load phx_protocol %}<{% " + tag + " " + options + " %}>"
    )
    return template.render(Context(context))


def request_of(user: Any) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    return request


def test_the_template_tag_gives_the_token_of_the_requests_user(db: None) -> None:
    ada = User.objects.create_user("ada")
    token = render(request=request_of(ada)).strip("<>")
    assert verify(token, salt="phx_protocol.user_token") == verify(
        user_token(ada), salt="phx_protocol.user_token"
    )


def test_the_template_tag_makes_tokens_that_end_with_the_session(db: None) -> None:
    ada = User.objects.create_user("ada")
    request = request_of(ada)
    request.session = SimpleNamespace(session_key="key")
    token = render("ends_with_session=True", request=request).strip("<>")
    assert verify(token, salt="phx_protocol.user_token") == verify(
        user_token(ada, request.session), salt="phx_protocol.user_token"
    )


def test_the_template_tag_gives_an_anonymous_visitor_nothing() -> None:
    assert render(request=request_of(AnonymousUser())) == "<>"


def test_the_template_tag_says_what_is_missing_without_a_request() -> None:
    with pytest.raises(
        ImproperlyConfigured, match="django.template.context_processors.request"
    ):
        render()


@override_settings(
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
)
def test_the_template_tag_is_found_by_its_name_in_an_installed_project() -> None:
    from django.template import engines

    template = engines["django"].from_string("{% load phx_protocol %}{% phx_token %}")
    assert template.render({"request": request_of(AnonymousUser())}) == ""


def script(options: str, user: Any) -> dict[str, str]:
    """The attributes of the tag that phx_script renders."""
    tag = render(options, "phx_script", request=request_of(user))[1:-1]
    assert re.fullmatch(r"<script( [\w-]+=\"[^\"<>]*\")+></script>", tag)
    return {
        name: unescape(value) for name, value in re.findall(r'([\w-]+)="(.*?)"', tag)
    }


def test_the_script_tag_carries_the_mount_and_the_token(db: None) -> None:
    ada = User.objects.create_user("ada")
    with override_settings(PHX_PROTOCOL={"SOCKETS": {"/live": "phx_protocol.Socket"}}):
        tag = script("'chat/room.js'", ada)
    token = tag.pop("data-token")
    assert verify(token, salt="phx_protocol.user_token") == verify(
        user_token(ada), salt="phx_protocol.user_token"
    )
    assert tag == {
        "type": "module",
        "id": "phx-script",
        "src": "/static/chat/room.js",
        "data-url": "/live",
    }


class Nonce(SimpleLazyObject):
    """As Django's: false until it was made."""

    def __init__(self) -> None:
        super().__init__(lambda: 'r4nd0m"')

    def __bool__(self) -> bool:
        return False


@pytest.mark.parametrize("place", ["csp_nonce", "request.csp_nonce", "_csp_nonce"])
def test_the_script_tag_has_the_nonce_of_the_context_or_of_the_request(
    place: str,
) -> None:
    request = request_of(AnonymousUser())
    context = {"request": request}
    if place == "csp_nonce":
        context[place] = Nonce()
    else:
        setattr(request, place.removeprefix("request."), Nonce())
    tag = render("'chat/room.js'", "phx_script", **context)
    assert ' nonce="r4nd0m&quot;"' in tag


@pytest.mark.parametrize("nonce", [None, ""])
def test_where_there_is_no_nonce_the_script_tag_has_none(nonce: Any) -> None:
    request = request_of(AnonymousUser())
    tag = render("'chat/room.js'", "phx_script", request=request, csp_nonce=nonce)
    assert "nonce" not in tag


def test_the_script_tag_leads_to_where_the_site_is_mounted() -> None:
    set_script_prefix("/app/")
    try:
        tag = script("'chat/room.js'", AnonymousUser())
        other = script("'chat/room.js' url='/other'", AnonymousUser())
    finally:
        set_script_prefix("/")
    assert tag["data-url"] == "/app/socket" and other["data-url"] == "/other"


def test_the_script_tag_of_an_anonymous_visitor_has_an_empty_token() -> None:
    tag = script("'chat/a&b.js' url='/other'", AnonymousUser())
    assert tag["data-token"] == "" and tag["data-url"] == "/other"
    assert tag["src"] == "/static/chat/a%26b.js"
