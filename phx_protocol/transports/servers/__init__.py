"""Servers: an adapter to each ASGI server, for what the messages of ASGI cannot say.

An adapter uses the server's own object, if it is found behind ``send``. Messages still go through
``send``, and so through middleware; only finished frames do not. Who does what a connection needs:

=====================================  =====================  ====================  ==================
a connection needs somebody to         uvicorn                Daphne                hypercorn, granian
=====================================  =====================  ====================  ==================
close with a code such as 1011         ASGI                   autobahn, not ASGI    ASGI
wait for a slow client                 ASGI                   nobody                ASGI
stop reading while messages wait       uvicorn                we pause Twisted      the server
tell how much is buffered              its transport          Twisted's buffer      nobody
abort a stalled connection             its transport          Twisted's transport   nobody
refuse a frame that is too large       websockets' parser     autobahn              by its own setting
read little from a client that floods  asyncio or the kernel  Twisted, always       nobody
write a frame that is finished         ``contrib.uvicorn``    unless ``send`` is    nobody
                                                              wrapped
=====================================  =====================  ====================  ==================

``finding`` chooses the adapter; ``wrappers`` looks for the server's object, and ``hidden`` logs when
middleware hides it. No other module but ``contrib.uvicorn`` knows a server.
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
