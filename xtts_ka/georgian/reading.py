"""How one model reads Georgian: the settings that training and synthesis must share, carried in the exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xtts_ka.core.config import TextConfig
from xtts_ka.georgian.abbreviation_table import load_abbreviations, table_of
from xtts_ka.georgian.text import normalise


@dataclass(frozen=True)
class Reading:
    """Reads text aloud with one choice for archaic letters ("respell" or "keep") and a user's own abbreviations."""

    archaic: str = "respell"
    abbreviations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: TextConfig) -> Reading:
        """As the config says. Raises UserError for a table that cannot be read."""
        return cls(config.archaic, load_abbreviations(config.abbreviations) if config.abbreviations else {})

    @classmethod
    def from_facts(cls, facts: Any) -> Reading | None:
        """As `facts()` of an exported model says, None if it does not; models of before the table have none."""
        if not isinstance(facts, dict) or facts.get("archaic") not in ("keep", "respell"):
            return None
        table = facts.get("abbreviations", {})
        texts = isinstance(table, dict) and all(isinstance(reading, str) for reading in table.values())
        return cls(facts["archaic"], table) if texts else None

    def facts(self) -> dict[str, Any]:
        return {"archaic": self.archaic, "abbreviations": dict(self.abbreviations)}

    def __call__(self, text: str) -> str:
        return normalise(text, archaic=self.archaic, abbreviations=table_of(self.abbreviations))
