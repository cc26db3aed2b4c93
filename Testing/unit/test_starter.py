"""The starter weights that come with the program: there, small, honest about themselves, and they know organs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib import models, taxonomy  # noqa: E402
from PASTALib.networks.card import PASTA_LABELS  # noqa: E402
from PASTALib.networks.load import load_model  # noqa: E402

FOLDER = models.bundled_folder()


def test_they_are_there_and_small():
    files = sorted(FOLDER.glob("*.pth"))
    assert [file.name for file in files] == [models.DENOISER, "starter.pth"]
    assert sum(file.stat().st_size for file in files) < 40e6
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)  # readable for all


def test_their_cards_say_what_they_are():
    from PASTALib.refinement.checkpoint import read_denoiser

    card = load_model("starter").card
    assert card.labels == PASTA_LABELS and card.trained and card.licence == "MIT"
    about = read_denoiser(FOLDER / models.DENOISER).about
    page = (FOLDER / "README.md").read_text("utf-8")
    assert "esearch use only" in page and "S03" in page
    for text in (" ".join(card.notes), " ".join(about["notes"])):
        assert "research use only" in text
    for text in (card.source, about["source"]):
        assert "S01" in text and "S02" in text and "steps" in text


def test_half_precision():
    state = torch.load(FOLDER / "starter.pth", map_location="cpu", weights_only=True)["network_weights"]
    assert {value.dtype for value in state.values()} == {torch.float16}


@pytest.mark.slow
def test_organs_of_a_torso_that_was_not_trained_on():
    from PASTALib.inference.segmentation import segment
    from PASTALib.phantom import make_phantom

    made = make_phantom(3.0, taxonomy.ENHANCED, 424_242)
    found = segment(made.ct, load_model("starter"), engine="torch-fp32").labels.array
    truth = made.organs.labels.array
    for key in ("lung", "liver", "kidney", "bladder", "bone"):
        value = taxonomy.organ(key).value
        values = [value, *(lesion.value for lesion in taxonomy.lesions_of(key))]
        there, mine = truth == value, np.isin(found, values)
        assert 2 * np.count_nonzero(there & mine) / (np.count_nonzero(there) + np.count_nonzero(mine)) > 0.75, key
