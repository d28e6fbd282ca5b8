"""The vision room on many faces: needs LFW, and says so where it is absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vision.portraits import MODELS, REPOSITORY, frame_of, live_permit, pixels_of

from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.refusals import VisionReason

LFW = Path(os.environ.get("TURNKEY_LFW", REPOSITORY.parent / "shared" / "lfw-dev" / "images"))


@pytest.mark.lfw
@pytest.mark.skipif(not LFW.is_dir(), reason="needs LFW: set TURNKEY_LFW or put it into ../shared/lfw-dev/images")
def test_press_photographs_pass_but_for_bystanders() -> None:
    """Of 150 pictures next to none is refused for its quality; those with several faces are not counted."""
    analyzer = Analyzer.load(MODELS)
    outcomes = [
        analyzer.analyze(frame_of(pixels_of(path)), live_permit()) for path in sorted(LFW.glob("*/*.jpg"))[::48][:150]
    ]
    alone = [
        outcome
        for outcome in outcomes
        if isinstance(outcome, Analysis) or outcome.reason is not VisionReason.SEVERAL_FACES
    ]
    assert len(alone) > 100
    assert sum(isinstance(outcome, Analysis) for outcome in alone) / len(alone) >= 0.97
