"""A class that is added to a module's source: what is there stays as it is."""

from __future__ import annotations

import pytest

from phx_protocol.management.scaffold.source import Unfit, with_class

CODE = "class New(Channel): ...\n"
END = f"\n\n{CODE}"


@pytest.mark.parametrize(
    "source, expected",
    [
        ("", f"from phx_protocol import Channel, event\n{END}"),
        (
            "from phx_protocol import Channel, event\n\nx = 1\n",
            f"from phx_protocol import Channel, event\n\nx = 1\n{END}",
        ),
        (
            "from phx_protocol import event, History, Channel as C\nx = 1\n",
            f"from phx_protocol import Channel as C, Channel, History, event\nx = 1\n{END}",
        ),
        (
            "from phx_protocol import (\n    History,\n    event,\n)\n",
            f"from phx_protocol import Channel, History, event\n{END}",
        ),
        (
            "from phx_protocol import History  # mine\nimport x\ny = 1\n",
            "from phx_protocol import History  # mine\nimport x\n"
            f"from phx_protocol import Channel, event\ny = 1\n{END}",
        ),
        (
            '"""Mine."""\n\nx = 1\n',
            '"""Mine."""\n\nfrom phx_protocol import Channel, event\n\nx = 1\n' + END,
        ),
        ("x = 1\n", f"from phx_protocol import Channel, event\n\n\nx = 1\n{END}"),
        (
            "from __future__ import annotations\n\nx = 1",
            "from __future__ import annotations\n"
            f"from phx_protocol import Channel, event\n\nx = 1\n{END}",
        ),
    ],
)
def test_existing_code_stays(source: str, expected: str) -> None:
    assert with_class(source, "New", CODE, ("Channel", "event")) == expected
    compile(expected, "channels.py", "exec")


@pytest.mark.parametrize(
    "source",
    [
        "class New: ...",
        "New = 1",
        "def New(): ...",
        "from x import New",
        "a, New = 1, 2",
    ]
    + ["from channels import Channel", "class Channel: ...", "Channel: int = 1"],
)
def test_a_name_that_is_taken_is_refused(source: str) -> None:
    with pytest.raises(Unfit):
        with_class(source, "New", CODE, ("Channel", "event"))
