"""Keep the values of FILTER_PARAMETERS out of the URLs in the access logs of servers.

One line in settings.py does it for uvicorn, gunicorn, hypercorn, granian, Daphne and runserver::

    from phx_protocol.contrib import access_logs

    access_logs.install()

Handlers and formats stay as they are. If other loggers of a project log URLs too, add the filter
to its LOGGING, best at a handler::

    "filters": {"parameters": {"()": "phx_protocol.contrib.access_logs.FilterParameters"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["parameters"]}},

That alone is not enough for ``daphne``: it writes its access log without ``logging``.
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

#: the loggers whose records contain URLs: those of the servers, and of both ``runserver``
LOGGERS = (
    "uvicorn.access",
    "uvicorn.error",
    "gunicorn.access",
    "hypercorn.access",
    "granian.access",
    "django.channels.server",
    "django.server",
)

# A pair in a query string; the text may be the query string alone. Clients need not quote a '"',
# so a '"' ends a value only before white space: then the log has put it around the URL.
_PAIR = re.compile(r'(?:^|(?<=[?&]))([^=&?\s]*)=(?:[^&\s"]|"(?!\s|$))*')


def filter_url(text: str) -> str:
    """Return `text` with the values of FILTER_PARAMETERS in its query strings masked.

    A value is masked if its name contains one of them, percent-encoded or not, ignoring case.
    """
    names = _filter_parameters()

    def mask(pair: re.Match[str]) -> str:
        hidden = is_hidden(unquote_plus(pair[1]), names)
        return f"{pair[1]}={FILTERED}" if hidden else pair[0]

    return _PAIR.sub(mask, text)


def _filter_parameters() -> Any:
    # servers log before Django is set up, and settings.py may log while Django loads it
    return (options() if settings.configured else Options()).filter_parameters


class FilterParameters(logging.Filter):
    """The filter that masks each record as ``filter_url`` does, and escapes unprintable characters.

    It lets every record pass and never raises an error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        with contextlib.suppress(Exception):
            # keep the order of the arguments: formatters such as uvicorn's need it
            record.args = _masked(record.args)
        with contextlib.suppress(Exception):
            # mask the message as well: it may contain a URL that was formatted before
            message = record.getMessage()
            # keep its line breaks, which may be the server's own
            masked = "\n".join(map(_shown, message.split("\n")))
            if masked != message:
                record.msg, record.args = masked, ()
        return True


def _masked(args: Any) -> Any:
    """Mask the arguments of a record: a tuple, or gunicorn's mapping (as a copy of its class)."""
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
    """Add the filter to LOGGERS, and to the access log of Daphne if that is installed.

    Call it in settings.py; a second call does nothing. Raises ImportError or AttributeError for a
    version of Daphne that writes its log in an unknown way.
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
