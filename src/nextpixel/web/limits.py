"""What the server does not go beyond."""

from __future__ import annotations

import dataclasses

from nextpixel.errors import UserError


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much one request, and all of them together, may ask for."""

    seconds: float = 60.0
    """a job that runs longer is stopped"""
    waiting: int = 128
    """jobs that may wait for their turn; further ones are told to come back later"""
    pictures: int = 16
    """pictures, or completions of a picture, that one request may ask for"""
    upload_mb: float = 8.0
    """megabytes of a request"""
    megapixels: float = 16.0
    """pixels of an uploaded picture, in millions, known from its header before it is decoded"""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 < getattr(self, field.name) < 1e9:
                raise UserError(f"{field.name} must be a positive number, not {getattr(self, field.name)}.")

    @property
    def request_bytes(self) -> int:
        return int(self.upload_mb * 1e6)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)


VALUES_AT_MOST = 1 << 22
"""probabilities in one answer: 16 MiB"""
UPLOAD_SECONDS = 30.0
"""in which a request must have come in whole"""
RANGE_PICTURES, RANGE_BATCH, RANGE_SECONDS = 32, 8, 20.0
"""pictures of a model's own from which its normal range is taken, drawn so many at a time, for about so long"""
