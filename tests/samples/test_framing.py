"""The sample's page belongs to no other page."""

from __future__ import annotations

from samples.appengine import page


def test_no_other_page_can_frame_the_sample() -> None:
    """Its headers forbid it, in current browsers and in older ones."""
    headers = dict(page.HEADERS)
    directives = [directive.strip() for directive in headers["Content-Security-Policy"].split(";")]
    assert "frame-ancestors 'none'" in directives
    assert headers["X-Frame-Options"] == "DENY"
