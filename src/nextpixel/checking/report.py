"""What a check found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fault` names what is wrong in a few fixed words, None if nothing is."""

    name: str
    passed: bool
    detail: str
    fault: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """All findings about one model, in the order in which they were made."""

    findings: list[Finding]
    model: str = ""

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    @property
    def faults(self) -> list[str]:
        """Every fault once, in the order found."""
        return list(dict.fromkeys(finding.fault for finding in self.findings if finding.fault is not None))

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "passed": self.passed,
            "faults": self.faults,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }

    def __repr__(self) -> str:
        width = max((len(finding.name) for finding in self.findings), default=0)
        lines = [self.model] if self.model else []
        for finding in self.findings:
            fault = f"{finding.fault.upper()}: " if finding.fault else ""
            lines.append(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.name:{width}}  {fault}{finding.detail}")
        lines.append("passed" if self.passed else f"FAILED: {', '.join(self.faults)}")
        return "\n".join(lines)


class Faults:
    """The faults of one check, each with the first example seen."""

    def __init__(self, name: str):
        self.name = name
        self.found: dict[str, str] = {}

    def add(self, fault: str, detail: str) -> None:
        self.found.setdefault(fault, detail)

    def findings(self, fine: str) -> list[Finding]:
        """One finding a fault; a single passed one, which says `fine`, if there is none."""
        if not self.found:
            return [Finding(self.name, True, fine)]
        return [Finding(self.name, False, detail, fault) for fault, detail in self.found.items()]


def collector(
    findings: list[Finding], progress: Callable[[str], None] | None
) -> Callable[[str, Callable[[], list[Finding]]], None]:
    """A function that runs a check by name and adds what it finds; a check that raises is a finding too."""

    def run(name: str, look: Callable[[], list[Finding]]) -> None:
        if progress is not None:
            progress(name)
        try:
            findings.extend(look())
        except Exception as error:
            findings.append(Finding(name, False, f"it raised {type(error).__name__}: {error}", "does not run"))

    return run
