"""What rows hash to: the data version of a materialisation.

What belongs here: hashing frames. What does not: writing and reporting them (``assets.session_run``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import polars as pl

from sigmasight_pipeline.storage import tables


@dataclass(frozen=True)
class RowHash:
    """What rows hash to without their provenance, whatever their order; hashes of parts add up to that of the whole."""

    rows: int = 0
    total: int = 0

    @classmethod
    def of(cls, frame: pl.DataFrame) -> RowHash:
        """The hash of a frame."""
        identity = frame.drop([c for c in (*tables.PROVENANCE, "fetched_at") if c in frame.columns])
        if identity.is_empty():
            return cls()
        return cls(identity.height, int(identity.hash_rows(seed=0).cast(pl.UInt128).sum()))

    def __add__(self, other: RowHash) -> RowHash:
        return RowHash(self.rows + other.rows, self.total + other.total)

    @property
    def digest(self) -> str:
        """A short text: equal content, equal data version."""
        return hashlib.sha256(f"{self.rows}:{self.total}".encode()).hexdigest()[:16] if self.rows else "empty"


def content_hash(frame: pl.DataFrame) -> str:
    """The digest of a frame's rows."""
    return RowHash.of(frame).digest
