"""A WebSocket protocol class for uvicorn, with which a frame is built once for all clients.

::

    uvicorn --ws phx_protocol.contrib.uvicorn:PhoenixWebSocketProtocol project.asgi:application

It derives from uvicorn's own class, and offers its RawTransport to the application in the scope's state.
The ordinary handshake and the ordinary frame are read here. All others go to websockets' parser, as
they do in uvicorn's class: it alone judges what is wrong.
"""

from .protocol import PhoenixWebSocketProtocol

__all__ = ["PhoenixWebSocketProtocol"]
