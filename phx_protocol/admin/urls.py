"""The part of a page's URL that stands for a topic."""

from __future__ import annotations

import hashlib
from urllib.parse import quote as percent

from django.contrib.admin.utils import quote, unquote
from django.http import Http404

from ..introspection import list_topics

#: the most characters that every server and proxy accepts
LENGTH = 1000


def address_of(topic: str) -> str:
    """Return `topic` quoted as the admin quotes primary keys, or ``~`` and its digest.

    The digest is for a topic that a path cannot carry: too long, empty, "." or "..".
    """
    quoted: str = quote(topic)
    if topic in ("", ".", "..") or topic[0] == "~" or len(percent(quoted)) > LENGTH:
        return "~" + _digest(topic)
    return quoted


def topic_at(address: str) -> str:
    """Return the topic of an address. Raise Http404 if no live topic has the digest."""
    if not address.startswith("~"):
        return str(unquote(address))
    for info in list_topics():
        if _digest(info.topic) == address[1:]:
            return info.topic
    raise Http404("No live topic has this address.")


def _digest(topic: str) -> str:
    return hashlib.blake2s(topic.encode(), digest_size=16).hexdigest()
