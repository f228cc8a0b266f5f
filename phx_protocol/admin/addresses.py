"""What stands for a topic in the address of its page."""

from __future__ import annotations

import hashlib
from urllib.parse import quote as percent

from django.contrib.admin.utils import quote, unquote
from django.http import Http404

from ..introspection import list_topics

#: characters that any server and proxy takes
LENGTH = 1000


def address_of(topic: str) -> str:
    """`topic` quoted as the admin quotes primary keys; for one that a path cannot carry, since it
    is too long or would be taken for a step up, ``~`` and a digest."""
    quoted: str = quote(topic)
    if topic in ("", ".", "..") or topic[0] == "~" or len(percent(quoted)) > LENGTH:
        return "~" + _digest(topic)
    return quoted


def topic_at(address: str) -> str:
    """The topic of an address. Raises Http404 for the digest of none that is live."""
    if not address.startswith("~"):
        return str(unquote(address))
    for info in list_topics():
        if _digest(info.topic) == address[1:]:
            return info.topic
    raise Http404("No live topic has this address.")


def _digest(topic: str) -> str:
    return hashlib.blake2s(topic.encode(), digest_size=16).hexdigest()
