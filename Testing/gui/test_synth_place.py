"""Lesions are placed by clicks: every type, from every view, in every geometry; the centroid meets the click, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy
from Testing.gui.synth_support import add_nodes, deep_index, hand, in_geometry, segment_centroid, started, voxels  # noqa: F401

VIEWS = ("Red", "Green", "Yellow")


def test_start(started):
    assert started.session is not None
    hit, lesion = started.place("liver", started.session.scan.organs)
    assert lesion is not None and not lesion.is_draft
    print(hit, started.session.world(lesion.result.center_ras), started.ui.hintLabel.text, started.editor.notes)
