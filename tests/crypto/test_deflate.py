"""Raw deflate within limits: only what is shorter, the whole window, no byte over the limit."""

from __future__ import annotations

import random
import zlib

import pytest

from beaker.crypto.deflate import deflated, inflated


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def test_only_what_is_shorter() -> None:
    """None for what deflates to as many bytes or more."""
    sizes = {n: len(raw(b"a" * n)) for n in range(1, 30)}
    assert any(n == size for n, size in sizes.items()), "one is exactly as long"
    assert [n for n in sizes if deflated(b"a" * n) is not None] == [n for n, size in sizes.items() if size < n]


def test_the_whole_window() -> None:
    """What repeats bytes of 30 KiB before, as any deflate of a window of 32 KiB may, is inflated."""
    data = random.Random(1).randbytes(30_000) * 2
    packed = raw(data)
    assert len(packed) < 31_000
    assert inflated(packed, len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_the_limit(size: int) -> None:
    """As many bytes as the limit are inflated, one more are not."""
    assert inflated(raw(b"x" * size), size) == b"x" * size
    assert inflated(raw(b"x" * (size + 1)), size) is None
