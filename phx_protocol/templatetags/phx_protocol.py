"""``{% load phx_protocol %}``: the token of the visitor, for phoenix.js."""

from __future__ import annotations

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.template import Context

from ..tokens import user_token

register = template.Library()


@register.simple_tag(takes_context=True)
def phx_token(context: Context) -> str:
    """The token of ``request.user`` for phoenix.js's ``authToken``; empty for an anonymous visitor.

    Raises ImproperlyConfigured when the template has no request.
    """
    request = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "{% phx_token %} found no request in the template's context: render it with one, and "
            "have 'django.template.context_processors.request' among the context_processors of TEMPLATES"
        )
    return user_token(request.user) if request.user.is_authenticated else ""
