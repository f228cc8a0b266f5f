"""``{% load phx_protocol %}``: the token of the visitor, for phoenix.js."""

from __future__ import annotations

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.template import Context

from ..tokens import user_token

register = template.Library()


@register.simple_tag(takes_context=True)
def phx_token(context: Context, ends_with_session: bool = False) -> str:
    """The token of ``request.user`` for phoenix.js's ``authToken``; empty for an anonymous visitor.

    ``{% phx_token ends_with_session=True %}`` makes one that counts with this session's cookie
    only, so that a logout ends it; a socket on another site needs one without. Raises ImproperlyConfigured when the template has no request.
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
