"""Sample data: phantoms generated here, with organ maps that every module reads."""

from __future__ import annotations

import numpy as np
import pytest

from PASTALib import taxonomy


@pytest.fixture
def sources(host):
    """What is registered with Sample Data, empty before and after."""
    import slicer

    before = getattr(slicer.modules, "sampleDataSources", None)
    slicer.modules.sampleDataSources = {}
    yield slicer.modules.sampleDataSources
    if before is None:
        del slicer.modules.sampleDataSources
    else:
        slicer.modules.sampleDataSources = before


def test_both_phantoms_are_offered_once(sources, open_module):
    from PASTALib.gui import sample_data

    open_module("PASTASegment")
    sample_data.register()
    names = [source.sampleName for source in sources["PASTA"]]
    assert names == ["PASTA phantom (enhanced)", "PASTA phantom (plain)"]
    assert all(source.uris is None and source.customDownloader for source in sources["PASTA"])
    assert all(source.thumbnailFileName.endswith(".png") for source in sources["PASTA"])


def test_before_categories_could_be_registered(sources, monkeypatch):
    import SampleData

    from PASTALib.gui import sample_data

    monkeypatch.delattr(SampleData.SampleDataLogic, "registerCustomSampleDataCategory")
    sample_data.register()
    assert len(sources["PASTA"]) == 2


@pytest.mark.parametrize("kind,phase", [("enhanced", taxonomy.ENHANCED), ("plain", taxonomy.PLAIN)])
def test_a_phantom_comes_with_its_organ_map(sources, layout, monkeypatch, kind, phase):
    import SampleData

    from PASTALib.gui import sample_data
    from PASTALib.mrml.organ_source import organ_map_of
    from PASTALib.mrml.volumes import read_volume_node
    from PASTALib.phantom import make_phantom
    from PASTALib.templates import contrast_phase

    monkeypatch.setattr(sample_data, "SPACING_MM", 5.0)
    monkeypatch.setattr(sample_data.add_phantom, "__defaults__", (taxonomy.ENHANCED, 5.0))
    sample_data.register()
    ct, organs = SampleData.SampleDataLogic().downloadSample(f"PASTA phantom ({kind})")
    volume, there = read_volume_node(ct), make_phantom(5.0, phase)
    np.testing.assert_array_equal(volume.array, there.ct.array)
    np.testing.assert_allclose(volume.affine, there.ct.affine)
    found = organ_map_of(organs, volume)
    np.testing.assert_array_equal(found.labels.array, there.organs.labels.array)
    assert found.structure_names == there.organs.structure_names
    assert contrast_phase(volume, found).phase == phase
    composite = layout["Red"].logic.GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == ct.GetID() and organs.GetNodeReference("CT") is ct


def test_the_window_lives_while_a_phantom_is_made(host):
    import qt

    from PASTALib.gui.sample_data import add_phantom

    ticks, timer = [], qt.QTimer()
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start(10)
    add_phantom(taxonomy.ENHANCED, 6.0)
    timer.stop()
    assert len(ticks) > 3


def test_what_goes_wrong_is_heard(host, monkeypatch):
    from PASTALib.gui import sample_data

    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(sample_data, "make_phantom", fail)
    with pytest.raises(MemoryError, match="no room"):
        sample_data.add_phantom()
