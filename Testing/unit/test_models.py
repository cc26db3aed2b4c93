"""The model store, fetching from a server, and ``pasta models``."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from PASTALib import models
from PASTALib.cli import app
from PASTALib.download import download, require_online
from PASTALib.errors import InputError
from PASTALib.networks.card import PASTA_LABELS, ModelCard
from PASTALib.networks.load import load_model, save_model
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.progress import Cancelled

THREE = {1: "organ", 2: "lesion"}


def pasta(*line, **options) -> object:
    return CliRunner().invoke(app, [str(item) for item in line], **options)


def refused(result, *wanted) -> None:
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("pasta: ") and result.stdout == ""
    for text in wanted:
        assert text in result.stderr


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> Path:
    """An empty store of this test's own, no bundled weights, and no connection to anything but this machine."""
    monkeypatch.setenv("PASTA_MODELS", str(tmp_path / "store"))
    monkeypatch.delenv("PASTA_OFFLINE", raising=False)
    monkeypatch.setattr(models, "bundled_folder", lambda: tmp_path / "bundled")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "store"


def write_model(path: Path, classes=3, outputs=0, labels=None, name="ours") -> Path:
    network = initialise(PastaNet(NetworkShape.of_width(2, classes=classes, attribute_outputs=outputs)), 1)
    save_model(path, network, ModelCard(name, labels=THREE if labels is None else labels))
    return path


@pytest.fixture
def weights(tmp_path) -> Path:
    return write_model(tmp_path / "organ_lesion.pth")


# ---------------------------------------------------------------------------------------------------------------
# The store


def test_store_needs_no_torch():
    code = "import sys, PASTALib.models, PASTALib.download, PASTALib.networks.card\nassert 'torch' not in sys.modules\nPASTALib.models.list_models()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_store_folder(monkeypatch, tmp_path):
    assert models.store_folder() == tmp_path / "store"
    monkeypatch.delenv("PASTA_MODELS")
    monkeypatch.setenv("PASTA_DATA", str(tmp_path / "data"))
    assert models.store_folder() == tmp_path / "data" / "models"


def test_add_find_list_and_remove(weights, store, tmp_path):
    assert models.list_models() == [] and models.find_model("mine") is None
    card = load_model(weights).card
    stored = models.add_model(weights, "mine", card.to_json())
    assert stored.path == store / "mine" / "model.pth" and stored.path.read_bytes() == weights.read_bytes()
    assert stored.bytes == weights.stat().st_size and models.find_model("mine") == stored
    assert sorted(item.name for item in store.iterdir()) == ["mine"]
    model = load_model("mine")
    assert model.card.name == "mine" and model.digest == load_model(weights).digest
    with pytest.raises(InputError, match="in the store already; add --overwrite"):
        models.add_model(weights, "mine", card.to_json())
    other = write_model(tmp_path / "other.pth", 4, labels={1: "a", 2: "b", 3: "c"})
    models.add_model(other, "mine", load_model(other).card.to_json(), overwrite=True)
    assert load_model("mine").shape.classes == 4
    models.add_model(weights, "another", card.to_json())
    assert [item.name for item in models.list_models()] == ["another", "mine"]
    assert models.remove_models(["mine"]) == ["mine"] and models.find_model("mine") is None
    with pytest.raises(InputError, match="'mine' is not in the store; there: another"):
        models.remove_models(["mine"])
    (store / ".downloads").mkdir()
    (store / "notes.txt").write_text("not ours")
    assert models.remove_models() == ["another"]
    assert [item.name for item in store.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "../x", ".hidden", "random", "nul", "a b", "x" * 65])
def test_names_that_are_no_good(weights, store, name):
    with pytest.raises(InputError, match="model name"):
        models.add_model(weights, name, {})
    assert not store.exists() and models.find_model(name) is None


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_copy_leaves_nothing(weights, store, monkeypatch, overwrite):
    if overwrite:
        models.add_model(weights, "mine", {"card": 1, "name": "old", "labels": {"1": "organ", "2": "lesion"}})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(InputError, match="No space left"):
        models.add_model(weights, "mine", {}, overwrite=overwrite)
    assert [item.name for item in store.iterdir()] == (["mine"] if overwrite else [])
    if overwrite:
        assert models.find_model("mine").card["name"] == "old" and load_model("mine").segments


def test_a_failed_replacement_brings_the_old_one_back(weights, store, monkeypatch):
    import os

    models.add_model(weights, "mine", {"card": 1, "name": "old"})
    rename = os.rename

    def once(source, target):
        if Path(target) == store / "mine" and Path(source).name != "old":
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", once)
    with pytest.raises(InputError, match="Input/output"):
        models.add_model(weights, "mine", {}, overwrite=True)
    assert models.find_model("mine").card["name"] == "old" and len(list(store.iterdir())) == 1


def test_bundled_weights_are_found_and_kept(tmp_path, weights):
    (tmp_path / "bundled").mkdir()
    write_model(tmp_path / "bundled" / "starter.pth", 26, 13, PASTA_LABELS)
    shutil.copy(
        tmp_path / "bundled" / "starter.pth", tmp_path / "bundled" / models.DENOISER
    )  # for refinement, not a model
    (found,) = models.list_models()
    assert models.find_model("ddpm") is None
    assert found.bundled and found.name == "starter" and found.card is None
    model = load_model("starter")
    assert model.card.name == "starter" and model.segments and model.predicts_attributes
    models.add_model(weights, "starter", load_model(weights).card.to_json())  # hides it, until it is removed
    assert [item.bundled for item in models.list_models()] == [False]
    assert models.remove_models() == ["starter"] and load_model("starter").shape.classes == 26
    with pytest.raises(InputError, match="is not in the store"):
        models.remove_models(["starter"])
    result = pasta("models", "list")
    assert (
        "starter" in result.stdout and "comes with this program" in result.stdout and "No starter" not in result.stdout
    )


def test_unknown_name_lists_what_is_there(weights):
    models.add_model(weights, "mine", load_model(weights).card.to_json())
    with pytest.raises(InputError, match=r"neither a file, nor a folder, nor a model in the store \(there: mine\)"):
        load_model("yours")


def test_damaged_card_can_be_cleared(weights, store):
    models.add_model(weights, "mine", load_model(weights).card.to_json())
    (store / "mine" / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"damaged; remove it with pasta models clear mine"):
        load_model("mine")
    assert models.remove_models(["mine"]) == ["mine"]


def test_published_entries_are_complete_and_never_need_torch():
    entries = {entry.name: entry for entry in models.published_models()}
    assert entries.keys() == {"PASTA_final", "PASTA_finetuned", "PASTA-Gen-30K"}
    assert (
        "1A_PjIAqKg0y_Z986HSfTsYKLhc99EMkD" in entries["PASTA_final"].url
        and entries["PASTA_final"].file == "PASTA_final.pth"
    )
    assert "1mSr8S6AFm9d4YvtUDOKjSUTH-S_cUNnr" in entries["PASTA_finetuned"].page
    assert "LWHYC/PASTA-Gen-30K" in entries["PASTA-Gen-30K"].page and entries["PASTA-Gen-30K"].licence == "MIT"
    for entry in entries.values():
        assert entry.licence and entry.page.startswith("https://") and entry.url != ""


# ---------------------------------------------------------------------------------------------------------------
# Fetching


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; ``cut``: bytes after which each answer breaks off; ``page``: a web page in its place."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.page, self.ranges, self.tag, self.status = content, None, None, True, '"v1"', 200
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        same = self.headers.get("If-Range") == server.tag
        if wanted and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
        body = server.page or server.content
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if server.page else "application/octet-stream")
        self.send_header("Content-Length", str(len(body) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[start : server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(weights):
    with Server(weights.read_bytes()) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_is_complete_and_hashed(server, tmp_path):
    seen = []
    target = tmp_path / "new" / "file.pth"
    digest = download(server.url, target, lambda *step: seen.append(step))
    assert target.read_bytes() == server.content and digest == hashlib.sha256(server.content).hexdigest()
    assert [item.name for item in target.parent.iterdir()] == ["file.pth"]
    assert seen[0] == (len(server.content), len(server.content), "fetching") and seen[-1][2] == "fetched"


def test_truncated_transfer_is_resumed(server, tmp_path):
    target = tmp_path / "file.pth"
    server.cut = 5000
    with pytest.raises(InputError, match=r"ended after 0\.0 of \d+\.\d MB; run the command again"):
        download(server.url, target)
    assert not target.exists() and Path(f"{target}.part").stat().st_size == 5000
    server.cut = None
    download(server.url, target)
    assert target.read_bytes() == server.content and server.asked == [None, "bytes=5000-"]
    assert not Path(f"{target}.part").exists() and not Path(f"{target}.part.json").exists()


@pytest.mark.parametrize("change", ["file", "no ranges", "no tag", "url", "size", "label"])
def test_resuming_never_mixes_two_files(server, tmp_path, change):
    target = tmp_path / "file.pth"
    server.cut = 5000
    server.tag = None if change == "no tag" else server.tag
    with pytest.raises(InputError):
        download(server.url, target)
    server.cut = None
    url = server.url
    if change == "file":
        server.content, server.tag = server.content[::-1], '"v2"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "url":
        url += "?other"
    elif change == "size":
        server.content = server.content[:4000]
    elif change == "label":
        Path(f"{target}.part.json").write_text("{")
    download(url, target)
    assert target.read_bytes() == server.content


def test_web_page_instead_of_the_file(server, tmp_path):
    server.page = b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>"
    with pytest.raises(InputError, match=r"web page instead of the file \(Google Drive"):
        download(server.url, tmp_path / "file.pth")
    assert list(tmp_path.glob("file*")) == []


def test_cancelling_passes_through_and_keeps_the_part(server, tmp_path):
    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        download(server.url, tmp_path / "file.pth", stop)
    assert not (tmp_path / "file.pth").exists()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusing_server(server, tmp_path, status):
    server.status = status
    with pytest.raises(InputError, match=rf"cannot be fetched \({status} "):
        download(server.url, tmp_path / "file.pth")


def test_no_server_no_scheme_no_disk(server, tmp_path, weights):
    url = server.url
    with pytest.raises(InputError, match="https://"):
        download(weights.as_uri(), tmp_path / "file.pth")
    with pytest.raises(InputError, match="https://"):
        download(str(weights), tmp_path / "file.pth")
    with pytest.raises(InputError, match="cannot be written"):
        download(url, weights / "below_a_file.pth")
    server.content = b""
    with pytest.raises(InputError, match="empty file"):
        download(url, tmp_path / "file.pth")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="cannot be fetched"):
        download(url, tmp_path / "file.pth")


def test_offline_switch(monkeypatch):
    require_online()
    with pytest.raises(InputError, match="offline"):
        require_online(True)
    for value, refuses in (("1", True), ("true", True), ("0", False), ("", False)):
        monkeypatch.setenv("PASTA_OFFLINE", value)
        if refuses:
            with pytest.raises(InputError, match="PASTA_OFFLINE"):
                require_online()
        else:
            require_online()


# ---------------------------------------------------------------------------------------------------------------
# pasta models


def test_help_and_empty_list():
    for command in ("list", "info", "add", "fetch", "clear"):
        result = pasta("models", command, "--help")
        assert result.exit_code == 0 and "--json" in result.stdout
        assert command in pasta("models").stdout
    text = pasta("models", "list").stdout
    for wanted in (
        "No model yet",
        "No starter weights",
        "random",
        "PASTA_final",
        "drive.google.com",
        "PASTA-Gen-30K",
        "licence: MIT",
        "not stated",
    ):
        assert wanted in text
    data = json.loads(pasta("models", "list", "--json").stdout)
    assert data["models"] == [] and len(data["published"]) == 3 and data["store"].endswith("store")


def test_add_list_info_clear(weights, store):
    result = pasta("models", "add", weights, "--name", "mine", "--lesion", "lung tumor", "--orientation", "ras")
    assert result.exit_code == 0, result.output
    assert "Added: mine (segments organ, lesion (lung_tumor))" in result.stdout
    card = load_model("mine").card
    assert (card.lesion, card.orientation, card.name) == ("lung_tumor", "RAS", "mine")
    assert "mine" in pasta("models", "list").stdout
    (entry,) = json.loads(pasta("models", "list", "--json").stdout)["models"]
    assert entry["card"]["lesion"] == "lung_tumor" and entry["bytes"] > 1000
    text = pasta("models", "info", "mine").stdout
    for wanted in (
        "3 classes: background, organ, lesion",
        "lung_tumor",
        "98 tensors matched, none dropped",
        "axes to RAS",
        "channels 2-4-8-16-32-32",
    ):
        assert wanted in text
    assert f"{load_model('mine').parameters:,} parameters" in text
    refused(pasta("models", "add", weights, "--name", "mine"), "in the store already")
    assert pasta("models", "add", weights, "--name", "mine", "--overwrite").exit_code == 0
    assert pasta("models", "clear", input="n\n").exit_code == 130 and models.find_model("mine")
    assert "Removed: mine" in pasta("models", "clear", input="y\n").stdout
    assert "nothing" in pasta("models", "clear", "--yes").stdout
    assert list(store.iterdir()) == []


def test_json_everywhere(weights):
    added = json.loads(pasta("models", "add", weights, "--json").stdout)
    assert added["name"] == "organ_lesion" and added["model"]["card"]["labels"] == {"1": "organ", "2": "lesion"}
    info = json.loads(pasta("models", "info", "organ_lesion", "--json").stdout)
    assert (
        {**info, "load": None} == {**added["model"], "load": None}
        and info["classes"] == 3
        and info["channels"] == [2, 4, 8, 16, 32, 32]
    )
    assert (
        info["load"]["wrapper"] == "network_weights"
        and len(info["load"]["matched"]) == 98
        and info["load"]["dropped"] == []
    )
    refused(pasta("models", "clear", "--json"), "--yes")
    assert json.loads(pasta("models", "clear", "organ_lesion", "--json", "--yes").stdout) == {
        "removed": ["organ_lesion"]
    }


def test_info_says_what_was_dropped(tmp_path):
    network = initialise(PastaNet(NetworkShape.of_width(2, classes=14, attribute_outputs=14)), 0)
    torch.save(network.state_dict(), tmp_path / "PASTA_final.pth")
    text = pasta("models", "info", tmp_path / "PASTA_final.pth").stdout
    for wanted in (
        "Segments     nothing",
        "a head of 14 outputs",
        "by-product",
        "5 of the segmentation output",
        "vectors of 32",
    ):
        assert wanted in text
    text = pasta("models", "info", "random:2").stdout
    assert "26 classes" in text and "mean nothing" in text


def test_add_a_model_folder(tmp_path, store):
    folder = tmp_path / "Dataset006_Lung" / "TotalLesionTrainer_ft__nnUNetPlans__3d_fullres"
    (folder / "fold_0" / "validation").mkdir(parents=True)
    (folder / "fold_0" / "validation" / "large.nii.gz").write_bytes(bytes(100))
    conf = {"patch_size": [64, 64, 64], "spacing": [1, 1, 1], "normalization_schemes": ["CTNormalization"]}
    numbers = {"mean": 0, "std": 100, "percentile_00_5": -900, "percentile_99_5": 300}
    plans = {
        "dataset_name": "Dataset006_Lung",
        "configurations": {"3d_fullres": conf},
        "foreground_intensity_properties_per_channel": {"0": numbers},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "tumor": 2}})
    )
    network = initialise(PastaNet(NetworkShape.of_width(2, classes=3)), 0)
    torch.save({"network_weights": network.state_dict()}, folder / "fold_0" / "checkpoint_final.pth")
    result = pasta("models", "add", tmp_path / "Dataset006_Lung", "--name", "lung")
    assert result.exit_code == 0, result.output
    files = {str(item.relative_to(store / "lung")) for item in (store / "lung").rglob("*") if item.is_file()}
    inner = folder.name
    assert files == {
        "card.json",
        f"{inner}/plans.json",
        f"{inner}/dataset.json",
        f"{inner}/fold_0/checkpoint_final.pth",
    }
    model = load_model("lung")
    assert model.card.name == "lung" and model.card.lesion == "lung_tumor" and model.card.patch == (64, 64, 64)
    refused(pasta("models", "add", folder / "fold_0", "--name", "fold"), "one fold of a model")
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    assert pasta("models", "add", folder, "--name", "best").exit_code == 0
    assert len(load_model("best").card.notes) == 1 and "checkpoint_best.pth is used" in load_model("best").card.notes[0]


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, store, weights):
    text = tmp_path / "notes.pth"
    text.write_text("no weights at all")
    refused(pasta("models", "info", text), "it looks like text")
    refused(pasta("models", "info", "nowhere"), "neither a file")
    refused(pasta("models", "add", text, "--name", "x"), "it looks like text")
    refused(pasta("models", "add", tmp_path / "gone.pth"), "does not exist")
    refused(pasta("models", "add", weights, "--name", "../x"), "model name")
    refused(pasta("models", "add", weights, "--name", "x", "--lesion", "wart"), "lesion type")
    refused(pasta("models", "add", weights, "--name", "x", "--orientation", "XYZ"), "LPS, LAS")
    refused(pasta("models", "clear", "x", "--yes"), "'x' is not in the store")
    refused(pasta("models", "fetch", "x"), "known: PASTA_final")
    refused(pasta("models", "fetch", "PASTA_finetuned"), "needs a browser: https://drive", "pasta models add")
    refused(pasta("models", "fetch", "PASTA-Gen-30K"), "is a data set", "huggingface.co")
    whole = write_model(tmp_path / "whole.pth", 26, 13, PASTA_LABELS)
    refused(pasta("models", "add", whole, "--name", "x", "--lesion", "lung_tumor"), "this one segments 25 classes")
    refused(pasta("models", "infos", text), "info")
    assert not store.exists()


def test_without_torch_it_says_how_to_install(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("PASTALib.networks.") and not name.endswith(".card")]:
        monkeypatch.delitem(sys.modules, name)
    refused(pasta("models", "info", weights), "pip install")


def test_fetch_asks_first(server, store):
    line = ("models", "fetch", "PASTA_final", "--url", server.url)
    result = pasta(*line, input="n\n")
    assert result.exit_code == 130 and server.asked == [] and "licence  not stated" in result.stdout
    refused(pasta(*line, "--json"), "--yes", "not stated")
    assert server.asked == [] and not store.exists()
    result = pasta(*line, "--name", "theirs", input="y\n")
    assert result.exit_code == 0, result.output
    assert hashlib.sha256(server.content).hexdigest() in result.stderr and "Added: theirs" in result.stdout
    card = load_model("theirs").card
    assert "not stated" in card.licence and card.source == server.url
    assert sorted(item.name for item in store.rglob("*")) == ["card.json", "model.pth", "theirs"]


def test_fetch_for_machines(server):
    result = pasta("models", "fetch", "PASTA_final", "--url", server.url, "--yes", "--json")
    data = json.loads(result.stdout)
    assert (
        data["name"] == "PASTA_final"
        and data["sha256"] == hashlib.sha256(server.content).hexdigest()
        and result.stderr == ""
    )


def test_offline_refuses_before_any_connection(server, store, monkeypatch):
    line = ("models", "fetch", "PASTA_final", "--url", server.url, "--yes")
    refused(pasta(*line, "--offline"), "offline")
    monkeypatch.setenv("PASTA_OFFLINE", "1")
    refused(pasta(*line), "offline")
    assert server.asked == [] and not store.exists()


def test_what_was_fetched_is_checked(server, store):
    line = ("models", "fetch", "PASTA_final", "--url", server.url, "--yes")
    server.page = b"<html>Google Drive can't scan this file for viruses"
    refused(pasta(*line), "web page instead of the file")
    server.page = None
    whole, server.content = server.content, server.content[:3000]  # a sound transfer of half a file
    result = pasta(*line)
    assert result.exit_code == 2 and "truncated or damaged" in result.stderr.splitlines()[-1]
    assert models.list_models() == [] and not [item for item in store.rglob("*") if item.is_file()]
    server.content, server.cut = whole, 3000
    refused(pasta(*line), "run the command again")
    server.cut = None
    assert pasta(*line).exit_code == 0 and server.asked[-1] == "bytes=3000-"
    assert load_model("PASTA_final").segments
