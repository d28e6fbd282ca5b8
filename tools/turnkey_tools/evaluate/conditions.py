"""Ways in which a picture can be worse than it was: smaller, blurred, too dark or too bright, compressed harder.

Rules kept here:
1. One thing is changed at a time, by a stated amount, on the decoded picture.
2. Exposure works on linear light (sRGB undone, IEC 61966-2-1) and clips, as a sensor does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Kind = Literal["size", "blur", "exposure", "jpeg"]


@dataclass(frozen=True)
class Condition:
    """One change.

    Attributes:
        kind: what is changed.
        amount: `size`: scale of both sides; `blur`: Gaussian's standard deviation, pixels of the picture; `exposure`:
            stops (2 is four times the light); `jpeg`: quality by libjpeg's scale, 1 to 95.
    """

    kind: Kind
    amount: float

    @property
    def name(self) -> str:
        """For tables and cache keys."""
        return f"{self.kind} {self.amount:g}"

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB -> the same, changed."""
        picture = Image.fromarray(pixels)
        if self.kind == "size":
            size = (max(1, round(picture.width * self.amount)), max(1, round(picture.height * self.amount)))
            return np.asarray(picture.resize(size, Image.Resampling.BOX, reducing_gap=None))
        if self.kind == "blur":
            return np.asarray(picture.filter(ImageFilter.GaussianBlur(self.amount)))
        if self.kind == "jpeg":
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=int(self.amount))
            with Image.open(file) as compressed:
                return np.asarray(compressed.convert("RGB"))
        return _exposed(self.amount)[pixels]


CONDITIONS: tuple[Condition, ...] = (
    *(Condition("size", scale) for scale in (0.7, 0.5, 0.35, 0.25)),
    *(Condition("blur", sigma) for sigma in (1.0, 2.0, 3.0, 4.0)),
    *(Condition("exposure", stops) for stops in (-4.0, -2.0, 1.0, 2.0)),
    *(Condition("jpeg", quality) for quality in (50, 20, 10, 5)),
)


def _exposed(stops: float) -> NDArray[np.uint8]:
    """(256,) uint8: what each value becomes."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    changed = np.clip(linear * 2.0**stops, 0, 1)
    back = np.where(changed <= 0.0031308, changed * 12.92, 1.055 * changed ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(back * 255), dtype=np.uint8)
