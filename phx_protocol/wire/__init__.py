"""The Phoenix wire protocol, pure: no Django, no asyncio, no I/O."""
