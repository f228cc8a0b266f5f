from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phx_protocol.exceptions import DecodeError
from phx_protocol.wire.params import decode_query


@pytest.mark.parametrize(
    "query, params",
    [
        (b"", {}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=1+2%20&b=%C3%A9", {"a": "1 2 ", "b": "é"}),
        (b"a=%zz", {"a": "%zz"}),
        (b"a[b]=1&a[c]=2", {"a": {"b": "1", "c": "2"}}),
        (b"a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[0]=x&a[1]=y", {"a": {"0": "x", "1": "y"}}),
        (b"token=&&vsn=2.0.0&", {"token": "", "vsn": "2.0.0"}),
        (b"a%5Bb%5D=1", {"a": {"b": "1"}}),
    ],
)
def test_queries_are_read_as_plug_reads_them(
    query: bytes, params: dict[str, Any]
) -> None:
    assert decode_query(query) == params


@pytest.mark.parametrize(
    "query",
    [
        b"a=%ff",
        b"&".join([b"a=1"] * 1001),
        b"a" + b"[b]" * 40 + b"=1",
        b"&" * 70_000,
        b"a=" + b"%61" * 25_000,
    ],
)
def test_too_large_queries_and_bad_utf8_are_refused(query: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_query(query)


@given(st.binary())
def test_whatever_comes_is_params_or_a_decode_error(query: bytes) -> None:
    try:
        assert isinstance(decode_query(query), dict)
    except DecodeError:
        pass
