"""What ``explain`` finds out, as a table for people and as JSON for machines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from beaker.operations.choice import terminal_of
from beaker.operations.terminal import Severity, Terminal

__all__ = ["Detected", "Finding", "OptionRow", "Report"]

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

    def to_text(self) -> str:
        """The same for people, as it goes through a pipe."""
        out = io.StringIO()
        self.show(terminal_of(out, {}))
        return out.getvalue()

    def show(self, out: Terminal, *, defaults: bool = True) -> None:
        """Show tables and findings. ``defaults``: with options that were not set."""
        out.title("Detected")
        out.table([(item.name, item.value, item.reason) for item in self.detected])
        rows = [row for row in self.options if defaults or row.origin != "default"]
        for scope in dict.fromkeys(row.scope for row in rows):
            out.title(scope)
            out.table([(row.option, row.value, row.origin, row.reason) for row in rows if row.scope == scope])
        out.title("Findings")
        if not self.findings:
            out.table([])
        for finding in self._sorted():
            out.finding(finding.severity, finding.code, finding.message, finding.fix)
