"""The check of the site's clock."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from . import advice
from .findings import Verdict, ok, skipped, warning
from .http import request
from .site import Site

#: seconds that two clocks may differ
LEEWAY = 5.0


async def skew(site: Site) -> Verdict:
    """Compare the header Date of any answer with the clock of this machine."""
    started = time.time()
    try:
        answer = await request(site, "GET", site.target("websocket"))
    except OSError as error:
        return skipped(f"no answer that has a date: {error}")
    date = answer.headers.get("Date")
    if date is None:
        return skipped("the answers of the site have no date")
    # the header has whole seconds: half a second is missing on average
    theirs = parsedate_to_datetime(date).timestamp() + 0.5
    ahead = theirs - (started + time.time()) / 2
    if abs(ahead) > LEEWAY:
        way = "ahead" if ahead > 0 else "behind"
        return warning(
            f"the site is {abs(ahead):.0f} s {way} of this machine", advice.SKEW
        )
    return ok(f"within {LEEWAY:.0f} s of this machine's")
