"""Keeps the values of FILTER_PARAMETERS out of the URLs in the access logs of servers.

One line in settings.py does it for uvicorn, gunicorn, hypercorn, granian, Daphne and runserver::

    from phx_protocol.contrib import access_logs

    access_logs.install()

Handlers and formats stay as they are. A project whose LOGGING sends other loggers' URLs
somewhere names the filter there, best at a handler::

    "filters": {"parameters": {"()": "phx_protocol.contrib.access_logs.FilterParameters"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["parameters"]}},

which is not enough for ``daphne``: it writes its access log without ``logging``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from django.conf import settings

from ..conf import Options, options
from ..logs.filters import FILTERED, is_hidden
from ..logs.printable import printable

#: the loggers whose records have URLs in them: of the servers, and of both ``runserver``
LOGGERS = (
    "uvicorn.access",
    "uvicorn.error",
    "gunicorn.access",
    "hypercorn.access",
    "granian.access",
    "django.channels.server",
    "django.server",
)

# A pair in a query string, which may be all that there is of the URL. Clients need not quote a
# '"', so only one in front of white space ends a value: the one that a log puts around the URL.
_PAIR = re.compile(r'(?:^|(?<=[?&]))([^=&?\s]*)=(?:[^&\s"]|"(?!\s|$))*')


def filter_url(text: str) -> str:
    """`text` with the values of FILTER_PARAMETERS in its query strings masked.

    A name counts when it contains one of them, percent-encoded or not, in any case.
    """
    names = _filter_parameters()

    def mask(pair: re.Match[str]) -> str:
        hidden = is_hidden(unquote_plus(pair[1]), names)
        return f"{pair[1]}={FILTERED}" if hidden else pair[0]

    return _PAIR.sub(mask, text)


def _filter_parameters() -> Any:
    # servers log before Django is set up, and settings.py may log while it is loaded
    return (options() if settings.configured else Options()).filter_parameters


class FilterParameters(logging.Filter):
    """Masks in each record what ``filter_url`` masks, and writes escapes for what is not printable.

    Lets every record pass and never raises.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        with contextlib.suppress(Exception):
            # in their places, which formatters such as uvicorn's rely on
            record.args = _masked(record.args)
        with contextlib.suppress(Exception):
            # and what was formatted before it came here
            message = record.getMessage()
            # its lines may be the server's own
            masked = "\n".join(map(_shown, message.split("\n")))
            if masked != message:
                record.msg, record.args = masked, ()
        return True


def _masked(args: Any) -> Any:
    """The arguments of a record: a tuple, or gunicorn's mapping of atoms (a copy of its class)."""
    if isinstance(args, tuple):
        return tuple(_shown(a) if isinstance(a, str) else a for a in args)
    if isinstance(args, Mapping):
        masked: Any = copy.copy(args)
        for name, value in args.items():
            if isinstance(value, str):
                masked[name] = _shown(value)
        return masked
    return args


def _shown(text: str) -> str:
    return printable(filter_url(text), None)


_FILTER = FilterParameters()


def install() -> None:
    """Put the filter on LOGGERS, and into the access log of Daphne where it is installed.

    Call it in settings.py; once more does no harm. Raises ImportError or AttributeError for a
    Daphne that writes its log in a way unknown here.
    """
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
    if importlib.util.find_spec("daphne") is not None:
        _filter_daphne()


def _filter_daphne() -> None:
    from daphne.access import AccessLogGenerator

    write = AccessLogGenerator.write_entry

    def write_entry(
        self: Any, host: Any, date: Any, request: str, *args: Any, **kwargs: Any
    ) -> None:
        write(self, host, date, _shown(request), *args, **kwargs)

    AccessLogGenerator.write_entry = write_entry
