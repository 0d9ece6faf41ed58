"""What ``explain`` finds out, as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final, Literal

from beaker.operations.terminal import Painter, table

__all__ = ["Detected", "Finding", "OptionRow", "Report"]

Severity = Literal["error", "warning", "note"]
_PLAIN: Final = Painter()
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Detected:
    """A fact about the surroundings and what says so."""

    name: str
    value: str
    reason: str = ""


@dataclass(frozen=True)
class OptionRow:
    """An option in force: ``value`` as text (``<set>`` for a secret), ``origin``, and the ``reason``."""

    scope: str
    option: str
    value: str
    origin: str
    reason: str = ""


@dataclass(frozen=True)
class Finding:
    """Something to see to: ``code`` names the kind, ``fix`` says what to do."""

    severity: Severity
    code: str
    message: str
    fix: str


@dataclass
class Report:
    """All of it. ``ok`` is false when there is an error among the findings."""

    detected: list[Detected] = field(default_factory=list)
    options: list[OptionRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing here keeps the application from working as it should."""
        return all(finding.severity != "error" for finding in self.findings)

    def add(self, severity: Severity, code: str, message: str, fix: str) -> None:
        """Note a finding, once."""
        finding = Finding(severity, code, message, fix)
        if finding not in self.findings:
            self.findings.append(finding)

    def to_json(self) -> str:
        """An object with ``ok``, ``detected``, ``options`` and ``findings``; each a list of objects."""
        lists = {name: [asdict(item) for item in items] for name, items in self._parts()}
        return json.dumps({"ok": self.ok, **lists}, indent=2)

    def _parts(self) -> Iterable[tuple[str, Sequence[Detected | OptionRow | Finding]]]:
        return (("detected", self.detected), ("options", self.options), ("findings", self._sorted()))

    def _sorted(self) -> list[Finding]:
        return sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity))

    def to_text(self, width: int = 100, *, defaults: bool = True, painter: Painter = _PLAIN) -> str:
        """Tables and findings, ``width`` columns where possible. ``defaults``: with options that were not set."""
        title = partial(painter, "title")
        detected = [(item.name, item.value, item.reason) for item in self.detected]
        lines = [title("Detected"), *table(detected, width)]
        rows = [row for row in self.options if defaults or row.origin != "default"]
        for scope in dict.fromkeys(row.scope for row in rows):
            own = [(row.option, row.value, row.origin, row.reason) for row in rows if row.scope == scope]
            lines += ["", title(scope), *table(own, width)]
        lines += ["", title("Findings")]
        for finding in self._sorted():
            first, *more = textwrap.wrap(
                f"{finding.severity.upper()} {finding.code}: {finding.message}",
                width,
                initial_indent="  ",
                subsequent_indent="    ",
            )
            severity = finding.severity.upper()
            lines += [first.replace(severity, painter(finding.severity, severity), 1), *more]
            # A command is copied whole: never wrapped.
            lines += [f"    {line}" for line in finding.fix.splitlines()]
        if not self.findings:
            lines.append("  none")
        return "\n".join(lines)
