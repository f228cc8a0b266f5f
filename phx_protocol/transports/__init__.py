"""The ASGI edge: how frames come in and go out."""
