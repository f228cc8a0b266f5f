"""The transports: how frames of clients come in and go out over ASGI."""
