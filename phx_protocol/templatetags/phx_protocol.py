"""The tags of ``{% load phx_protocol %}``: the visitor's token, and the script that connects with it."""

from __future__ import annotations

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.template import Context
from django.templatetags.static import static
from django.urls import get_script_prefix
from django.utils.html import format_html

from ..conf import options
from ..tokens import user_token

register = template.Library()


@register.simple_tag(takes_context=True)
def phx_token(context: Context, ends_with_session: bool = False) -> str:
    """Write the token of ``request.user`` for phoenix.js's ``authToken``.

    It is empty for an anonymous visitor. ``{% phx_token ends_with_session=True %}`` makes a token
    that is valid only with this session's cookie, so that a logout ends it; do not use it for a
    socket on another site, which does not get the cookie. Raises ImproperlyConfigured if the
    template has no request.
    """
    request = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "{% phx_token %} found no request in the template's context: render it with one, and "
            "have 'django.template.context_processors.request' among the context_processors of TEMPLATES"
        )
    if not request.user.is_authenticated:
        return ""
    return user_token(request.user, request.session if ends_with_session else None)


@register.simple_tag(takes_context=True)
def phx_script(
    context: Context, path: str, url: str = "", ends_with_session: bool = False
) -> str:
    """Write the script tag of the static file `path`, a JavaScript module that connects::

        {% phx_script "chat/room.js" %}

        const { url, token } = document.getElementById("phx-script").dataset
        const socket = new Socket(url, { authToken: token })

    `url` is the mount of the socket, by default the first of the setting SOCKETS, below the script
    prefix that URLs of this page have. The token is that of ``{% phx_token %}``, with the same
    `ends_with_session`. The tag has no inline script, and it has the nonce of a
    Content-Security-Policy: `csp_nonce` of the context or of the request, as Django's own
    middleware and django-csp make it.
    """
    return format_html(
        '<script type="module"{} id="phx-script" src="{}" data-url="{}" data-token="{}"></script>',
        _nonce_attribute(context),
        static(path),
        url or f"{get_script_prefix().rstrip('/')}{next(iter(options().sockets))}",
        phx_token(context, ends_with_session),
    )


@register.simple_tag(name="phx_nonce_attribute", takes_context=True)
def _nonce_attribute(context: Context) -> str:
    """Write the attribute ``nonce`` of a script tag, with a space before it, or nothing."""
    request = context.get("request")
    found = (
        context.get("csp_nonce"),
        getattr(request, "csp_nonce", None),
        getattr(request, "_csp_nonce", None),  # Django's, without its context processor
    )
    # not the first that is true: Django's nonce is false until its text is read
    nonce = str(next((n for n in found if n is not None), ""))
    return format_html(' nonce="{}"', nonce) if nonce else ""
