"""Stage 2: the attribute head on the frozen encoder of stage 1 (paper, Methods 3): cross-entropy, mean over five attributes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from PASTALib.attributes import LEARNED, TABLE
from PASTALib.errors import InputError
from PASTALib.inference.attributes import GROUPS
from PASTALib.networks.load import PastaModel, load_model, save_model
from PASTALib.networks.unet import ATTRIBUTE_OUTPUTS, NetworkShape, PastaNet, initialise
from PASTALib.progress import Progress, silent

from .attribute_features import FreshLesions, StoredLesions, encode_lesions, require_reports, split_cases
from .runs import Run, write_json
from .segmentation.dataset import list_cases, set_digest
from .segmentation.evaluate import accuracy, evaluate_attributes
from .segmentation.export import MODEL
from .segmentation.ranks import Ranks
from .segmentation.recipe import precision_of
from .segmentation.sources import SynthesisSamples
from .segmentation.stage import CASES, SCORES, SOURCES, SYNTHESIS

BALANCE = "class_balance.json"
SCHEDULES, CLASS_WEIGHTS = ("cosine", "constant"), ("none", "inverse")
_NOTE = "attribute head trained on synthetic lesions, encoder frozen"


def pretrain_attributes(
    run: Run,
    settings: Mapping[str, Any],
    model: PastaModel,
    *,
    ranks: Ranks,
    data: Path | None = None,
    scans: Path | None = None,
    seed: int = 0,
    workers: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> Path | None:
    """Train the head for ``model`` and return the checkpoint ``model.pth`` that holds both; None on all ranks but the first.

    Lesions come from the generated set ``data`` (settings["source"] "cases") or are made on the fly ("synthesis", in phantoms and in the CTs
    of the table ``scans``). The head with the best mean accuracy on held-out lesions is kept. Features, and with them the whole training,
    are the same for the same seed; a run that was stopped goes on to the same weights on one CPU.
    """
    check(settings, model, data, scans)
    network, card = model.networks[0], model.card
    train_part, held_part, told, digest = _sources(settings, model, data, scans, seed)
    if ranks.first:
        _same_model(run, model, digest)
    ranks.wait()
    options = {"jitter": settings["jitter"], "seed": seed, "ranks": ranks, "workers": workers, "progress": progress}
    options |= {"precision": settings["precision"], "batch": settings["encoder_batch"]}
    folder = run.folder / "features"
    x, y = encode_lesions(folder / "train", train_part, network, card, forms=settings["forms"], **options)
    held = encode_lesions(folder / "held_out", held_part, network, card, forms=1, **options)
    if not len(x) or not len(held[0]):
        raise InputError(
            f"{len(x)} lesions to train on and {len(held[0])} held out; wanted some of both: give more cases"
        )
    counts = class_counts(y)
    if ranks.first:
        write_json(run.folder / BALANCE, {"train": counts, "held out": class_counts(held[1])})
    head = train_head(
        run, (x, y), (held[0][:, 0], held[1]), settings, ranks=ranks, seed=seed, resume=resume, progress=progress
    )
    if not ranks.first:
        return None
    whole = with_head(network, head)
    note = f"{_NOTE}: {settings['steps']} steps of {settings['batch']} on {len(x)} lesions x {settings['forms']} forms, {told}"
    save_model(run.folder / MODEL, whole, card.with_notes(note))
    return run.folder / MODEL


def check(settings: Mapping[str, Any], model: PastaModel, data: Path | None, scans: Path | None) -> None:
    """InputError, before anything is written, for what does not go together."""
    source = settings["source"]
    if source not in SOURCES:
        raise InputError(f"source is {source!r}; wanted {' or '.join(SOURCES)}")
    if source == CASES and (data is None or scans is not None):
        raise InputError(
            "source=cases: give --data, a folder that `generate` wrote, and no --scans; or set source=synthesis"
        )
    if source == SYNTHESIS and data is not None:
        raise InputError("source=synthesis makes its lesions itself: leave --data out, or set source=cases")
    if len(model.networks) != 1 or model.shape.in_channels != 1:
        raise InputError(
            f"{model.card.name}: {len(model.networks)} networks of {model.shape.in_channels} images; wanted one network of CT alone, such as one fold"
        )
    if settings["schedule"] not in SCHEDULES or settings["class_weights"] not in CLASS_WEIGHTS:
        raise InputError(
            f"schedule {settings['schedule']!r}, class_weights {settings['class_weights']!r}; wanted {' or '.join(SCHEDULES)}, {' or '.join(CLASS_WEIGHTS)}"
        )
    for key in ("batch", "steps", "forms", "log_every", "validate_every", "encoder_batch"):
        if settings[key] < 1:
            raise InputError(f"{key} is {settings[key]}; wanted 1 or more")
    precision_of(settings["precision"], torch.device("cpu"))
    if not settings["learning_rate"] > 0 or settings["jitter"] < 0:
        raise InputError(
            f"learning_rate {settings['learning_rate']:g}, jitter {settings['jitter']}; wanted above 0, and 0 or more"
        )
    _sources(settings, model, data, scans, 0)


def _sources(settings: Mapping[str, Any], model: PastaModel, data: Path | None, scans: Path | None, seed: int):
    """Lesions to train on and held out, what they are in a few words, and a digest of them."""
    if settings["source"] == CASES:
        cases = list_cases(data)
        require_reports(cases)
        own, aside = split_cases(cases, settings["held_out_share"], seed)
        told = f"{len(own)} cases of {Path(data).name}"
        return StoredLesions(own, model.card), StoredLesions(aside, model.card), told, set_digest(cases)
    if model.card.attribute_orientation != "LPS":
        raise InputError(
            f"{model.card.name}: its crops run to {model.card.attribute_orientation}; synthesis on the fly makes LPS, use stored cases"
        )
    wanted = {**settings, "spacing_mm": model.card.spacing_mm, "lesion_share": 1.0}
    samples = SynthesisSamples(wanted, scans, seed)
    parts = [FreshLesions(samples, settings["lesions"]), FreshLesions(samples, settings["held_out_lesions"], True)]
    return *parts, samples.describe(), samples.digest()


def _same_model(run: Run, model: PastaModel, digest: str) -> None:
    """Features of another encoder or other lesions must not be taken for this one's."""
    found, note = {"model": model.digest, "lesions": digest}, run.folder / "data.json"
    kept = run.folder / "features"
    if note.is_file() and json.loads(note.read_text("utf-8")) != found and kept.is_dir():
        for file in kept.rglob("*.npz"):
            file.unlink()
        if run.load() is not None:
            raise InputError(
                f"--resume: {run.folder} was trained on another model or other lesions; give the same, or begin anew"
            )
    write_json(note, found)


# ---------------------------------------------------------------------------------------------------------------
# The head


def make_head(channels: int, seed: int) -> nn.Sequential:
    """A new head for features of ``channels``, as in ``PastaNet``."""
    shape = NetworkShape((channels,) * 3, classes=0, attribute_outputs=ATTRIBUTE_OUTPUTS)
    return initialise(PastaNet(shape), seed).head


def with_head(network: PastaNet, head: nn.Sequential) -> PastaNet:
    """A copy of ``network`` that has ``head``."""
    whole = PastaNet(replace(network.shape, attribute_outputs=ATTRIBUTE_OUTPUTS))
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("head.")}
    whole.load_state_dict(state | {f"head.{key}": value.cpu() for key, value in head.state_dict().items()})
    return whole.eval()


def group_loss(
    logits: torch.Tensor, options: torch.Tensor, weights: Sequence[torch.Tensor] | None = None
) -> torch.Tensor:
    """Cross-entropy of logits (N, 13) against option numbers (N, 5), mean over the attributes; -1 does not count."""
    losses = []
    for number, part in enumerate(logits.split(GROUPS, dim=1)):
        wanted = options[:, number]
        if (wanted >= 0).any():
            weight = None if weights is None else weights[number]
            losses.append(nn.functional.cross_entropy(part, wanted, weight, ignore_index=-1))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def class_counts(options: np.ndarray) -> dict[str, dict[str, int]]:
    """Lesions per option of every attribute."""
    return {
        key: {name: int(np.count_nonzero(options[:, number] == n)) for n, name in enumerate(TABLE[key].options)}
        for number, key in enumerate(LEARNED)
    }


def inverse_weights(options: np.ndarray) -> list[torch.Tensor]:
    """Weight of every option: inverse to its frequency, 1 on average over the lesions; 0 for options that do not occur."""
    weights = []
    for counts in class_counts(options).values():
        numbers = np.array(list(counts.values()), float)
        there = np.count_nonzero(numbers)
        weights.append(
            torch.tensor(
                np.where(numbers > 0, numbers.sum() / np.maximum(numbers, 1) / max(1, there), 0), dtype=torch.float32
            )
        )
    return weights


def score_head(head: nn.Module, features: torch.Tensor, options: np.ndarray) -> dict[str, dict]:
    """Per attribute: lesions, accuracy, majority (always the commonest option of these lesions), balanced accuracy."""
    head.eval()
    with torch.inference_mode():
        parts = head(features).split(GROUPS, dim=1)
    head.train()
    scores = {}
    for number, (key, part) in enumerate(zip(LEARNED, parts)):
        known = options[:, number] >= 0
        if known.any():
            scores[key] = accuracy(options[known, number].tolist(), part.argmax(1).cpu().numpy()[known].tolist())
    return scores


def train_head(
    run: Run,
    lesions: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    settings: Mapping[str, Any],
    *,
    ranks: Ranks,
    seed: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> nn.Sequential:
    """Train a head on features ``(lesions, forms, channels)`` with options ``(lesions, 5)`` and return the best one, on the CPU.

    Adam as the authors' code, batches drawn from the seed and the step alone. The best has the highest mean accuracy over the attributes
    on ``held_out`` (features ``(lesions, channels)``, options), looked at every ``validate_every`` steps, when the state is saved too.
    """
    features, options = lesions
    count, kinds, channels = features.shape
    part, device, steps = ranks.share(settings["batch"], "batch"), ranks.device, settings["steps"]
    head = make_head(channels, seed).to(device)
    optimiser = torch.optim.Adam(head.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"])
    weights = None
    if settings["class_weights"] == "inverse":
        weights = [weight.to(device) for weight in inverse_weights(options)]
    first, best = 0, -1.0
    state = run.load() if resume else None
    if state is not None:
        head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
        first, best = state["step"], state["best"]
    if ranks.first:
        run.forget_after(first)
    whole = DistributedDataParallel(head) if ranks.several else head
    x, y = torch.from_numpy(features).reshape(count * kinds, channels).to(device), torch.from_numpy(options).to(device)
    held_x = torch.from_numpy(held_out[0]).to(device)
    losses: list[torch.Tensor] = []
    for step in range(first, steps):
        if settings["schedule"] == "cosine":
            rate = settings["learning_rate"] * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.param_groups[0]["lr"] = rate
        drawn = np.random.default_rng([seed, step]).integers(count * kinds, size=settings["batch"])
        drawn = torch.from_numpy(drawn[ranks.rank * part : (ranks.rank + 1) * part]).to(device)
        loss = group_loss(whole(x[drawn]), y[drawn // kinds], weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        done = step + 1
        if done % settings["log_every"] == 0 or done == steps:
            mean = float(torch.stack(losses).mean())
            if ranks.first:
                run.log(done, loss=mean, learning_rate=optimiser.param_groups[0]["lr"])
            progress(done, steps, f"training the head, loss {mean:.3f}")
            losses = []
        if (done % settings["validate_every"] == 0 or done == steps) and ranks.first:
            scores = score_head(head, held_x, held_out[1])
            mean = float(np.mean([entry["accuracy"] for entry in scores.values()]))
            run.log(done, accuracy=mean, **{f"accuracy_{key}": entry["accuracy"] for key, entry in scores.items()})
            if mean > best:
                best = mean
                run.save({"step": done, "head": head.state_dict(), "scores": scores}, "best")
            run.save({"step": done, "best": best, "head": head.state_dict(), "optimiser": optimiser.state_dict()})
    ranks.wait()
    kept = run.load("best")
    head.load_state_dict(kept["head"])
    if ranks.first:
        write_json(run.folder / "held_out.json", {"step": kept["step"], "attributes": kept["scores"]})
    return head.cpu().eval()


def score(run: Run, cases: Sequence[Path], device: str, progress: Progress = silent) -> dict[str, dict]:
    """Scores by part, attribute and figure: those on the held-out lesions by which the head was chosen, and on ``cases`` where there are any.

    The latter are kept in ``evaluation.json`` and, in short, on the model's card.
    """
    found = {"held_out_lesions": json.loads((run.folder / "held_out.json").read_text("utf-8"))["attributes"]}
    if not cases:
        return found
    path = run.folder / MODEL
    model = load_model(path)
    scores = evaluate_attributes(model, cases, device=device, progress=progress)
    write_json(run.folder / SCORES, scores)
    told = ", ".join(
        f"{key} {entry['accuracy']:.2f} (majority {entry['majority']:.2f})" for key, entry in scores.items()
    )
    notes = [line for line in model.card.notes if not line.startswith(_SCORED)]
    card = replace(model.card, notes=(*notes, f"{_SCORED} {len(cases)} synthetic cases not trained on: {told}"))
    save_model(path, model.networks[0], card)
    return found | {"cases": scores}


_SCORED = "attributes scored on"
