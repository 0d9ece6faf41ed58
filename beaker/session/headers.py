"""Headers of a response, completed by those of its session."""

from __future__ import annotations

from beaker._typing import Headers

__all__ = ["with_session_headers"]


def with_session_headers(headers: Headers, session: Headers) -> Headers:
    """``headers`` with the session's merged in: Vary and Cache-Control are completed, not replaced."""
    if not session:
        return headers
    there = " ".join(dict(headers)).lower()
    if "vary" not in there and "cache-control" not in there:
        return [*headers, *session]
    merged = list(headers)
    for name, value in session:
        if name.lower() not in there:
            merged.append((name, value))
        elif name == "Vary":
            _complete(merged, name, [value], drop=())
        elif name == "Cache-Control":
            # What says "public" would contradict a response with a visitor's cookie in it.
            _complete(merged, name, value.split(", "), drop=("public", "s-maxage"))
        else:
            merged.append((name, value))
    return merged


def _complete(headers: Headers, name: str, words: list[str], *, drop: tuple[str, ...]) -> None:
    lower = name.lower()
    found = [item for item in headers if item[0].lower() == lower]
    if not found:
        headers.append((name, ", ".join(words)))
        return
    there: list[str] = []
    for item in found:
        headers.remove(item)
        there += [word.strip() for word in item[1].split(",") if word.strip()]
    there = [word for word in there if word.partition("=")[0].lower() not in drop]
    known = {word.lower() for word in there}
    if "*" not in known:
        there += [word for word in words if word.lower() not in known]
    headers.append((name, ", ".join(there)))
