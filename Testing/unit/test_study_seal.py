"""The key: sealed with a passphrase or kept in a file; wrong passphrases, damaged and other studies' keys."""

from __future__ import annotations

import builtins
import json
import stat
import sys

import pytest

from PASTALib.errors import InputError
from PASTALib.study import seal as seal_module
from PASTALib.study.create import create_study
from PASTALib.study.package import KEY, open_study
from PASTALib.study.seal import StudyKey, seal, unlock, unseal, write_key_file

WORDS = "four quiet grey horses"
CASES = {"c1": {"truth": "real", "source": "/data/Ä.nii.gz"}}


@pytest.fixture
def quick(monkeypatch):
    """A cheap scrypt for tests that open the key often."""
    monkeypatch.setattr(seal_module, "_SCRYPT", {"n": 2**10, "r": 8, "p": 1})


def test_sealed_and_opened(tmp_path):
    pytest.importorskip("cryptography")
    key = StudyKey("s1", 5, CASES)
    (tmp_path / KEY).write_bytes(seal(key, WORDS))
    assert b"real" not in (tmp_path / KEY).read_bytes()
    assert unlock(tmp_path, "s1", WORDS) == key
    assert seal(key, WORDS) != seal(key, WORDS)


def test_wrong_passphrase_and_damage(tmp_path, quick):
    pytest.importorskip("cryptography")
    path = tmp_path / KEY
    content = seal(StudyKey("s1", 5, CASES), WORDS)
    path.write_bytes(content)
    for wrong in ("four quiet grey horse", WORDS + " ", ""):
        with pytest.raises(InputError, match="wrong passphrase"):
            unseal(path, wrong)
    data = json.loads(content)
    for change in ({"token": data["token"][:-8] + "AAAAAAA="}, {"salt": "00" * 16}):
        path.write_text(json.dumps(data | change))
        with pytest.raises(InputError, match="wrong passphrase .or a damaged file"):
            unseal(path, WORDS)
    for text in (
        "",
        "{",
        json.dumps({"schema": "x"}),
        json.dumps(data | {"scrypt": {"n": 2**40, "r": 8, "p": 1}}),
        json.dumps(data | {"salt": "zz"}),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            unseal(path, WORDS)


def test_a_short_passphrase_is_refused():
    pytest.importorskip("cryptography")
    with pytest.raises(InputError, match="has 7 characters; choose at least 8"):
        seal(StudyKey("s1", 5, {}), "1234567")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_key_file_is_for_its_owner_only_and_never_overwritten(tmp_path):
    key = StudyKey("s1", 5, CASES)
    write_key_file(key, tmp_path / "key.json")
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600
    assert unlock(tmp_path / "study", "s1", key_file=tmp_path / "key.json") == key
    with pytest.raises(InputError, match="a key is never overwritten"):
        write_key_file(key, tmp_path / "key.json")


def test_keys_that_do_not_fit(tmp_path):
    write_key_file(StudyKey("s2", 5, CASES), tmp_path / "key.json")
    with pytest.raises(InputError, match="is the key of another study .s2, this one is s1"):
        unlock(tmp_path, "s1", key_file=tmp_path / "key.json")
    with pytest.raises(InputError, match="does not exist"):
        unlock(tmp_path, "s1", key_file=tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="holds no key.sealed; this is a reader's copy"):
        unlock(tmp_path, "s1", WORDS)
    (tmp_path / "bad.json").write_text('{"schema": "other"}')
    with pytest.raises(InputError, match="is not the key of a study"):
        unlock(tmp_path, "s1", key_file=tmp_path / "bad.json")
    (tmp_path / KEY).write_text("{}")
    with pytest.raises(InputError, match="is sealed; give the lead's passphrase"):
        unlock(tmp_path, "s1")


def test_a_study_sealed_with_a_passphrase(tmp_path, study_pools, study_design, quick):
    pytest.importorskip("cryptography")
    study = open_study(create_study(tmp_path / "s", study_design(), *study_pools, seed=1, passphrase=WORDS))
    key = unlock(study.folder, study.study_id, WORDS)
    assert set(key.cases) == set(study.data["cases"]) and key.seed == 1
    assert sum(about["truth"] == "real" for about in key.cases.values()) == 6


@pytest.mark.parametrize(
    "choice,told",
    [
        ({}, "the key needs one place"),
        ({"passphrase": WORDS, "key_file": "k.json"}, "the key needs one place"),
        ({"passphrase": "short"}, "choose at least 8"),
        ({"key_file": "s/k.json"}, "lies in the study that readers get"),
        ({"key_file": "no/k.json"}, "which does not exist"),
        ({"key_file": "there.json"}, "exists already"),
    ],
)
def test_where_the_key_may_be(tmp_path, study_pools, study_design, choice, told):
    (tmp_path / "there.json").touch()
    if "key_file" in choice:
        choice = choice | {"key_file": tmp_path / choice["key_file"]}
    with pytest.raises(InputError, match=told):
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, **choice)
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]


def test_without_cryptography_a_key_file_still_works(tmp_path, study_pools, study_design, monkeypatch):
    real = builtins.__import__

    def blocked(name, *arguments, **more):
        if name.split(".")[0] == "cryptography":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(InputError, match="a passphrase needs the package cryptography .pip install") as caught:
        create_study(tmp_path / "s", study_design(), *study_pools, seed=1, passphrase=WORDS)
    assert "--key-file" in str(caught.value)
    folder = create_study(tmp_path / "s", study_design(), *study_pools, seed=1, key_file=tmp_path / "k.json")
    assert len(unlock(folder, open_study(folder).study_id, key_file=tmp_path / "k.json").cases) == 12
