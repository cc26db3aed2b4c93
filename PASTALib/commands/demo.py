"""``pasta demo``: a first look that needs no data: lesions, refinement, segmentation, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import taxonomy
from ..errors import InputError
from . import options

if TYPE_CHECKING:
    import numpy as np

    from ..reporting.gallery import GalleryEntry
    from ..synthesis.scan import PreparedScan
    from ..synthesis.spec import SynthesisResult
    from ..worker import Worker
    from .console import Steps
    from .work import Improve

SHOWCASE = ("liver_tumor", "kidney_cyst", "pancreas_tumor")


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the case and index.html.")] = Path("pasta-demo"),
    ct: Annotated[Path | None, typer.Option(help="CT. [dim]Without it: the built-in digital phantom.[/dim]")] = None,
    organs: Annotated[Path | None, typer.Option(help="Organ map of the CT.")] = None,
    organ_scheme: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="pasta, totalseg-v2 or totalseg-v1.")
    ] = None,
    lesion: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help=f"Lesion type; repeatable. [dim]Default: {', '.join(SHOWCASE)}.[/dim]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Same seed and input, same lesions.")] = 0,
    spacing: Annotated[float, typer.Option(metavar="MM", help="Voxel size of the phantom.")] = 1.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name in DIR.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and no progress, for machines.")] = False,
) -> None:
    """Make a case with a few lesions, refine, segment and report them, and write a page: in the digital phantom or in your own CT."""
    kinds = list(dict.fromkeys(options.lesion_type(item) for item in lesion or SHOWCASE))
    options.scan_and_seed(ct, organs, organ_scheme, seed, spacing)

    from .console import note, print_json, print_lesion, steps
    from .output import OutputFolder

    target = OutputFolder(out, overwrite)
    with steps(quiet=as_json) as progress:
        from ..reporting.rows import rows_of
        from ..worker import Worker
        from . import work
        from .gallery import write_pages

        if ct is not None:
            scan = work.load_scan(ct, organs, organ_scheme, progress)
            source = ct.resolve().name
            if not lesion:
                kinds = _possible(scan, kinds)
        else:
            phase = (
                taxonomy.PLAIN
                if all(taxonomy.lesion(kind).phases == (taxonomy.PLAIN,) for kind in kinds)
                else taxonomy.ENHANCED
            )
            scan = work.phantom_scan(phase, spacing, seed, progress)
            source = "digital phantom"
        notes = work.scan_notes(scan, kinds)
        before = scan.ct.array.copy()
        denoiser, missing = options.refinement("auto")
        notes += [missing] if missing else []
        requests = [work.worth_seeing(scan, kind, seed + n).request for n, kind in enumerate(kinds)]
        with Worker() as worker, target as staging:
            unrefined: list[SynthesisResult] = []
            with work.refining(denoiser, progress, worker) as improve:
                results = work.make_lesions(scan, requests, progress, improve and _remembering(improve, unrefined))
            notes += work.result_notes(scan, results)
            name = f"{work.scan_name(ct) if ct else 'phantom'}_seed{seed}"
            folder = work.write_scan_case(
                staging,
                name,
                scan,
                before,
                results,
                source=source,
                seed=seed,
                notes=notes,
                settings={"lesions": kinds},
                steps=progress,
            )
            links, told, labels = _networks(scan, source, staging, worker, progress)
            notes += told
            entries = _entries(scan, before, results, unrefined, labels)
            facts = [source.capitalize() if ct is None else source, scan.phase, f"seed {seed}"]
            write_pages(staging, entries, "Synthetic lesions, a first look", [*facts, *notes], links)
            folder = target.path / folder.relative_to(staging)

    page = target.path / "index.html"
    if as_json:
        lesions = [work.lesion_json(result) for result in results]
        made = {"page": str(page), "case": str(folder), "files": [str(target.path / file) for file, _ in links]}
        print_json({**made, "phase": scan.phase, "notes": notes, "lesions": lesions})
        return
    for line in notes:
        note(line)
    for result in results:
        print_lesion(taxonomy.lesion(result.request.lesion).name, rows_of(result, scan.spacing.max()))
    typer.echo(f"Open {page} in a browser. The case (CT, masks, report) is in {folder}")
    if ct is None:
        typer.echo("Next, with your own scan: pasta synth --ct CT --organs MAP --lesion liver_tumor --out DIR")


def _remembering(improve: Improve, unrefined: list[SynthesisResult]) -> Improve:
    """``improve`` that keeps what it was given."""

    def both(scan: PreparedScan, result: SynthesisResult) -> SynthesisResult:
        unrefined.append(result)
        return improve(scan, result)

    return both


def _entries(
    scan: PreparedScan,
    before: np.ndarray,
    results: list[SynthesisResult],
    unrefined: list[SynthesisResult],
    labels: np.ndarray | None,
) -> list[GalleryEntry]:
    """What the page shows of each lesion: before and after, and where there is such a thing without refinement and as segmented."""
    from ..reporting.gallery import GalleryEntry, Stage
    from ..reporting.rows import rows_of
    from . import work

    entries = []
    for number, result in enumerate(results):
        truth = work.full_label(scan, result)
        kind = taxonomy.lesion(result.request.lesion)
        stages, facts = [], []
        if unrefined:
            plain = scan.ct.array.copy()
            first = unrefined[number]
            plain[first.region][first.changed] = first.after[first.changed].round().astype(plain.dtype)
            stages += [Stage("Parametric model", plain), Stage("Refined", compare=True)]
            facts.append(_refinement_told(result.parameters["refinement"]))
        if labels is not None:
            lesions = labels > len(taxonomy.ORGANS)
            masks = {"found-organ": labels == taxonomy.organ(kind.organ).value, "found-lesion": lesions}
            stages.append(Stage("Segmentation", masks=masks | {"outline": truth}))
            facts.append(_found_told(labels, truth))
        entries.append(
            GalleryEntry.draw(
                before,
                scan.ct.array,
                truth,
                scan.ct.affine,
                result.report,
                rows=rows_of(result, scan.spacing.max()),
                stages=stages,
                stage_facts=facts,
            )
        )
    return entries


def _refinement_told(record: dict) -> str:
    if not record["applied"]:
        return f"Refinement: none, {record['why']}."
    kept = "" if record["strength"] == 1 else f", {record['strength']:.0%} of the change kept"
    return f"Refinement: {record['steps']} reverse steps of the denoising network{kept}; labels measured again and unchanged."


def _found_told(labels: np.ndarray, truth: np.ndarray) -> str:
    """Which lesion type the segmentation has where the lesion is, and how well it fits."""
    import numpy as np

    values, counts = np.unique(labels[truth], return_counts=True)
    lesions = [(count, value) for value, count in zip(values.tolist(), counts.tolist()) if value > len(taxonomy.ORGANS)]
    if not lesions:
        return "Segmentation: the network did not find this lesion."
    value = max(lesions)[1]
    found = labels == value
    dice = 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))
    name = next(item.name for item in taxonomy.LESIONS if item.value == value)
    return f"Segmentation: {name.lower()}, Dice {dice:.2f} over the whole scan."


def _possible(scan, kinds: list[str]) -> list[str]:
    """Those of ``kinds`` whose organ the scan shows; if there is none, the first type of any organ that it shows."""
    shown = [kind for kind in kinds if taxonomy.lesion(kind).organ in scan.geometry]
    for kind in taxonomy.LESION_KEYS:
        if shown:
            break
        if taxonomy.lesion(kind).organ in scan.geometry:
            shown = [kind]
    if not shown:
        raise InputError("the organ map has none of the ten organs; run pasta organs or choose another map")
    return shown


def _networks(
    scan: PreparedScan, source: str, folder: Path, worker: Worker, steps: Steps
) -> tuple[list[tuple[str, str]], list[str], np.ndarray | None]:
    """Segment the scan and report the lesions; (file, title) of what was written below ``folder``, notes, and labels of trained weights.

    Without trained weights random ones go the same way, and what they say is kept out of the report.
    """
    from ..findings import LesionMask, complete, find_lesions, scan_phase
    from ..reporting.document import ModelFacts, ReportDocument, ScanFacts, write_json
    from ..reporting.report_page import write_page
    from ..volume import Volume

    steps.start("Measuring the lesions")
    ct = Volume(scan.ct.array, scan.ct.affine, {"source": source})
    labels = Volume(scan.lesion_labels(), ct.affine)
    notes: list[str] = []
    phase = scan_phase(ct, scan.organs)
    findings = find_lesions(ct, LesionMask.of_pasta_labels(labels), organs=scan.organs, phase=phase, notes=notes)
    links = [("report.html", "Structured report"), ("report.json", "the same as JSON")]
    facts = segmented = None
    if missing := _torch_missing():
        notes.append(missing)
    else:
        predictions, told, found = _run_networks(scan, findings, folder, worker, steps)
        links.append((told["file"], "Segmentation (label map)" if told["trained"] else "Label map of random weights"))
        if told["trained"]:
            notes += told["notes"]
            findings = [complete(item, answer) for item, answer in zip(findings, predictions, strict=True)]
            facts = ModelFacts(told["model"])
            segmented = found
        else:
            notes.append(
                f"no starter weights are installed: networks of random weights segmented {told['windows']} windows in "
                f"{told['seconds']['windows']:.1f} s ({told['engine']}) and judged the lesions, which means nothing and is left out of the report"
            )
    steps.start("Writing the report")
    document = ReportDocument(ScanFacts.of(ct, phase), findings, _now(), facts, "lesions of this demo", notes)
    write_page(document, ct, folder / "report.html")
    write_json(document, folder / "report.json")
    return links, notes, segmented


def _run_networks(
    scan: PreparedScan, findings: list, folder: Path, worker: Worker, steps: Steps
) -> tuple[list, dict, np.ndarray]:
    """Attribute predictions, what is told of the segmentation that now lies in ``folder``, and its labels (z, y, x)."""
    import numpy as np

    from . import network_work

    model, region = network_work.first_model(), None
    if model == network_work.RANDOM:  # only to show that it runs: the lesions' organs are enough
        region = np.zeros(scan.ct.array.shape, bool)
        for key in {taxonomy.lesion(item.lesion).organ for item in findings}:
            region |= scan.organs.mask(key)
    labels, told = network_work.segment_scan(worker, scan.ct, model, {}, region, steps)
    centres = [item.centre_ras for item in findings]
    predictions = network_work.predict_lesions(worker, scan.ct, model, centres, "auto", steps)
    told["file"] = "segmentation.nii.gz" if told["trained"] else "segmentation-random-weights.nii.gz"
    network_work.write_labels(labels, told["names"], folder / told["file"])
    return predictions, told, labels.array


def _torch_missing() -> str:
    """A note when there is no PyTorch here; empty when there is."""
    from importlib.util import find_spec

    if find_spec("torch"):
        return ""
    return 'segmentation and attribute prediction need PyTorch: pip install "slicerpasta[fast]"'


def _now() -> str:
    from datetime import datetime

    return datetime.now().astimezone().isoformat(timespec="seconds")
