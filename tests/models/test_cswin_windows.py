"""Attention of more windows than a GPU takes at once."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from stellarscale.models import cswin  # noqa: E402


def test_windows_in_parts_are_the_windows_at_once(monkeypatch):
    query, key, value = torch.randn(3, 23, 2, 6, 4, generator=torch.Generator().manual_seed(1)).unbind()
    whole = cswin._attended(query, key, value)
    monkeypatch.setattr(cswin, "_MOST_WINDOWS", 5)
    torch.testing.assert_close(cswin._attended(query, key, value), whole, rtol=0, atol=1e-6)


def test_windows_are_views_wherever_their_tokens_follow_each_other(monkeypatch):
    """Rows of the map, and the whole map: only columns are copied before the attention."""
    seen = []
    monkeypatch.setattr(cswin, "_attended", lambda *each: seen.append(each) or each[2].contiguous())
    for stripe, is_view in (((2, 8), True), ((8, 8), True), ((8, 2), False)):
        qkv = torch.randn(3, 8, 8, 3, 2, 8).unbind(-2)[1]
        cswin.StripeAttention(8, 2, stripe)(qkv)
        addresses = [each.untyped_storage().data_ptr() for each in seen.pop()]
        assert (addresses == [qkv.untyped_storage().data_ptr()] * 3) is is_view
