"""Servers: an adapter to each ASGI server, for what the messages of ASGI cannot say.

A connection needs more than ASGI has: it must be closed with any code, a stalled one must be
aborted, and somebody must know how much the server has buffered for a slow client. So an adapter
uses the server's own object, if it is found behind ``send`` (``finding``). All other messages go
through ``send``, and so through middleware. No other module but ``contrib.uvicorn`` knows a server.

==================  ============================================================  ============
server              what it lacks                                                 its adapter
==================  ============================================================  ============
uvicorn             a limit for frames (wsproto); small reads in a flood          ``uvicorn``
Daphne              close codes such as 1011 (autobahn takes 1000 and 3000-4999   ``daphne``
                    only); a ``send`` and a queue that wait for a slow side
hypercorn, granian  an object that we could use: nothing but ASGI                 ``adapter``
==================  ============================================================  ============
"""

from .adapter import FrameTransport, HttpAdapter, RawTransport, ServerAdapter
from .finding import adapter_for, http_adapter_for

__all__ = [
    "FrameTransport",
    "HttpAdapter",
    "RawTransport",
    "ServerAdapter",
    "adapter_for",
    "http_adapter_for",
]
