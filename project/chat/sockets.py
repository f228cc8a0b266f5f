from __future__ import annotations

from phx_protocol.tokens import TokenSocket


class ChatSocket(TokenSocket):
    """The page's token says who it is. Without one a visitor may connect, and sees no room."""

    token_required = False

    def id(self) -> str | None:
        return f"users:{self.user.pk}" if self.user.is_authenticated else None
