"""Folds, inner validation and few-shot draws: by patient, balanced, fixed once."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from PASTALib.errors import InputError
from training.downstream.splits import draw_order, inner_split, kept_splits, make_splits, read_splits


@dataclass(frozen=True)
class Member:
    id: str
    patient: str
    stratum: str = "0"


def members(patients, strata):
    return [Member(f"case{n:03d}", f"p{p}", str(s)) for n, (p, s) in enumerate(zip(patients, strata))]


LISTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=8, max_size=50)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.integers(2, 5), st.integers(0, 5))
def test_every_case_is_tested_once_and_no_patient_is_on_both_sides(pairs, folds, seed):
    cases = members(*zip(*pairs))
    if len({case.patient for case in cases}) < folds:
        with pytest.raises(InputError, match="patients"):
            make_splits(cases, folds, seed)
        return
    splits = make_splits(cases, folds, seed)
    assert sorted(name for part in splits.folds for name in part) == [case.id for case in cases]
    assert len(splits.folds) == folds and all(splits.folds)
    patient = {case.id: case.patient for case in cases}
    for fold in range(folds):
        tested = {patient[name] for name in splits.test(fold)}
        assert tested.isdisjoint(patient[name] for name in splits.training(fold))
    assert make_splits(cases[::-1], folds, seed) == splits


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=10, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_strata_are_spread_to_within_one_case_where_patients_have_one_scan(strata, folds, seed):
    cases = members(range(len(strata)), strata)
    counts = {s: strata.count(s) for s in set(strata)}
    if max(counts.values()) < folds:
        return
    splits = make_splits(cases, folds, seed)
    stratum = {case.id: int(case.stratum) for case in cases}
    for kind in counts:
        per_fold = [sum(stratum[name] == kind for name in part) for part in splits.folds]
        assert max(per_fold) - min(per_fold) <= 1


def test_the_papers_plain_ct_set_has_six_tumours_in_each_fold():
    cases = members(range(330), [1] * 30 + [0] * 300)
    splits = make_splits(cases, 5, 0)
    assert [sum(int(name[4:]) < 30 for name in part) for part in splits.folds] == [6] * 5
    assert make_splits(cases, 5, 1) != splits


@settings(max_examples=40, deadline=None)
@given(LISTS, st.sampled_from([0.1, 0.2, 0.3, 0.5]), st.integers(0, 5))
def test_the_inner_part_shares_no_patient_with_what_is_learned_from(pairs, share, seed):
    cases = members(*zip(*pairs))
    patient = {case.id: case.patient for case in cases}
    if len(set(patient.values())) < 2:
        return
    learn, choose = inner_split(cases, share, seed)
    assert learn and choose and sorted(learn + choose) == sorted(patient)
    assert {patient[name] for name in learn}.isdisjoint(patient[name] for name in choose)
    assert inner_split(cases[::-1], share, seed) == (learn, choose)


def test_nobody_is_set_aside_with_a_share_of_nothing():
    cases = members(range(6), [0, 1] * 3)
    assert inner_split(cases, 0, 3) == ([case.id for case in cases], [])
    for share in (-0.1, 0.7):
        with pytest.raises(InputError, match="validation_share"):
            inner_split(cases, share, 0)


HOLDS = {f"case{n:03d}": {1, 2} if n % 5 == 0 else {1, 3} if n % 2 else {1} for n in range(40)}
CASES = members(range(40), [0] * 40)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(0, 4), st.sampled_from(["any", "together"]))
def test_larger_draws_add_to_smaller_ones(seed, fold, rule):
    largest = draw_order(CASES, 16, [seed, fold, 0], rule, HOLDS, [1, 2, 3])
    assert len(set(largest)) == 16 and largest == draw_order(CASES[::-1], 16, [seed, fold, 0], rule, HOLDS, [3, 2, 1])
    assert draw_order(CASES, 4, [seed, fold, 0], rule, HOLDS, [1, 2, 3]) == largest[:4]
    assert largest != draw_order(CASES, 16, [seed, fold, 1], rule, HOLDS, [1, 2, 3])
    if rule == "together":
        assert set().union(*(HOLDS[name] for name in largest[:2])) == {1, 2, 3}


def test_draws_like_those_of_kits_hold_every_lesion_in_every_scan():
    both = {name: {1, 2, 3} if n % 4 == 0 else {1, 2} for n, name in enumerate(HOLDS)}
    for seed in range(10):
        drawn = draw_order(CASES, 8, [seed], "each", both, [2, 3])
        assert all({2, 3} <= both[name] for name in drawn)
    with pytest.raises(InputError, match="10 training cases hold all of the labels 2, 3, 16 are to be drawn"):
        draw_order(CASES, 16, [0], "each", both, [2, 3])
    with pytest.raises(InputError, match="no training case holds the label 9"):
        draw_order(CASES, 2, [0], "together", both, [2, 9])
    with pytest.raises(InputError, match="any, each, together"):
        draw_order(CASES, 2, [0], "some", both, [2])


def test_splits_are_fixed_once(tmp_path):
    cases = members(range(20), [0, 1] * 10)
    file = tmp_path / "splits.json"
    first = kept_splits(file, cases, 5, 0)
    assert kept_splits(file, cases, 5, 99) == first  # a later seed changes nothing
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"folds": [list(part) for part in make_splits(cases, 5, 7).folds]}))
    with pytest.raises(InputError, match="--splits"):
        kept_splits(file, cases, 5, 0, other)
    taken = kept_splits(tmp_path / "taken.json", cases, 5, 0, other)
    assert taken.folds == read_splits(other, cases).folds


def test_nnunets_splits_are_read(tmp_path):
    cases = members(range(4), [0] * 4)
    names = [case.id for case in cases]
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": names[2:], "val": names[:2]}, {"train": names[:2], "val": names[2:]}]))
    assert read_splits(file, cases).folds == (tuple(names[:2]), tuple(names[2:]))


@pytest.mark.parametrize(
    "folds,expected",
    [
        ([["case000", "case002"], ["case001", "case003"]], "patient 'p0' is in the folds 0 and 1"),
        ([["case000", "case001"], ["case002", "case002"]], "case 'case002' is tested in the folds 1 and 1"),
        ([["case000", "case001"], ["case002"]], "case 'case003' .1 in all. is in no fold"),
        ([["case000", "case001"], ["case002", "case003", "x"]], "'x', which is not among the cases"),
        ([["case000", "case001", "case002", "case003"]], "1 folds"),
        ("nonsense", "not readable as splits"),
    ],
)
def test_wrong_splits_are_refused_in_one_line(tmp_path, folds, expected):
    cases = members([0, 0, 1, 1], [0] * 4)
    file = tmp_path / "splits.json"
    file.write_text(json.dumps({"folds": folds}))
    with pytest.raises(InputError, match=expected) as error:
        read_splits(file, cases)
    assert "\n" not in str(error.value) and "splits.json" in str(error.value)
