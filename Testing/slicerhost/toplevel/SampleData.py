"""The module Sample Data: keeps what is registered, and runs the download functions of modules."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer


@dataclass
class SampleDataSource:
    """What a module registered; the fields have the names of Slicer's."""

    sampleName: str | None = None
    sampleDescription: str | None = None
    uris: object = None
    fileNames: object = None
    nodeNames: object = None
    loadFileType: object = None
    loadFiles: object = None
    customDownloader: object = None
    thumbnailFileName: str | None = None
    checksums: object = None
    loadFileProperties: dict = field(default_factory=dict)


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str | None = None) -> None:
        _sources().setdefault(category, [])

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        sampleDescription=None,
    ) -> None:
        source = SampleDataSource(
            sampleName,
            sampleDescription,
            uris,
            fileNames,
            nodeNames,
            loadFileType,
            loadFiles,
            customDownloader,
            thumbnailFileName,
            checksums,
            loadFileProperties or {},
        )
        _sources().setdefault(category, []).append(source)

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        return next((s for group in _sources().values() for s in group if s.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource):
        """Only generated samples can be had here: nothing is fetched from the network."""
        if source.customDownloader is None:
            raise RuntimeError(f"the sample {source.sampleName!r} would have to be downloaded")
        return source.customDownloader(source)

    def downloadSample(self, sampleName: str):
        return self.downloadFromSource(self.sourceForSampleName(sampleName))


def _sources() -> dict[str, list[SampleDataSource]]:
    if not hasattr(slicer.modules, "sampleDataSources"):
        slicer.modules.sampleDataSources = {}
    return slicer.modules.sampleDataSources
