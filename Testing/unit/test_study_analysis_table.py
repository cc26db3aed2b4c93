"""Ratings that are read and checked before they are analysed."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from PASTALib.errors import InputError
from PASTALib.study.analysis.table import COLUMNS, build_table, read_ratings


def row(**changes) -> dict:
    base = {
        "reader": "ann", "part": "realism", "case": "c1", "lesion_type": "liver_cyst", "truth": "real", "question": "realism", "score": 4,
        "confidence": None, "seconds": 12.5, "repeat": 0, "session": 1, "practice": 0, "time": "2026-11-01T10:00:00Z",
    }  # fmt: skip
    return base | changes


def written(folder, rows, columns=COLUMNS):
    path = folder / "ratings.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_become_arrays():
    rows = [
        row(), row(case="c2", truth="synthetic", lesion_type="lung_tumor", score="5", seconds=""),
        row(reader="bob", score=3), row(reader="bob", score=2, repeat=1), row(case="c3", practice=1, score=1),
        row(part="description", question="shape", truth="synthetic", case="d1"), row(part="description", question="invasion", truth="synthetic", case="d1", score=2),
    ]  # fmt: skip
    table = build_table(rows)
    part = table.parts["realism"]
    assert part.readers == ("ann", "bob") and part.cases == ("c1", "c2") and table.practice_rows == 1
    assert part.kinds == ("lung_tumor", "liver_cyst")  # the taxonomy's order
    np.testing.assert_array_equal(part.scores[0], [[4, 5], [3, np.nan]])
    np.testing.assert_array_equal(part.second[0], [[np.nan, np.nan], [2, np.nan]])
    np.testing.assert_array_equal(part.seconds, [[12.5, np.nan], [12.5, np.nan]])
    assert part.synthetic.tolist() == [False, True]
    described = table.parts["description"]
    assert described.questions == ("shape", "invasion")
    np.testing.assert_array_equal(described.mean_scores(), [[3]])


def test_csv_and_data_frame_give_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [row(), row(reader="bob", score=3, confidence=80), row(case="c2", truth="synthetic", score="")]
    from_csv = build_table(read_ratings(written(tmp_path, rows))).parts["realism"]
    from_frame = build_table(pandas.DataFrame([r | {"score": r["score"] or None} for r in rows])).parts["realism"]
    for one in (from_csv, from_frame):
        np.testing.assert_array_equal(one.scores[0], [[4, np.nan], [3, np.nan]])
        assert one.confidence[1, 0] == 80


def test_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame([row(), row(reader="bob")]).to_parquet(tmp_path / "r.parquet")
    assert build_table(read_ratings(tmp_path / "r.parquet")).parts["realism"].readers == ("ann", "bob")


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"score": 7}, "score '7'; wanted a whole number from 1 to 5"),
        ({"score": 0}, "score '0'"),
        ({"score": 3.5}, "score '3.5'"),
        ({"score": "good"}, "score 'good' is not a number"),
        ({"truth": ""}, "truth is '', wanted real or synthetic; close the study"),
        ({"truth": "fake"}, "truth is 'fake'"),
        ({"part": "realismus"}, "part 'realismus' is not known"),
        ({"question": "shape"}, "question 'shape' of part realism is not known"),
        ({"reader": " "}, "reader is empty"),
        ({"repeat": 0.5}, "repeat '0.5'"),
        ({"seconds": "fast"}, "seconds 'fast' is not a number"),
    ],
)
def test_a_bad_value_is_named_with_its_row(changes, words):
    with pytest.raises(InputError) as error:
        build_table([row(), row(case="c2", **changes)])
    message = str(error.value)
    assert words in message and "row 2" in message and "\n" not in message


def test_contradictions():
    with pytest.raises(InputError, match="case c1 has two truths or lesion types"):
        build_table([row(), row(reader="bob", truth="synthetic")])
    with pytest.raises(InputError, match="reader ann, case c1, question realism is there twice for repeat 0"):
        build_table([row(), row(score=5)])


def test_missing_and_unknown_columns(tmp_path):
    names = [name for name in COLUMNS if name != "lesion_type"]
    with pytest.raises(InputError, match="no column 'lesion_type'.*rename 'lesion'"):
        read_ratings(written(tmp_path, [row() | {"lesion": "x"}], [*names, "lesion"]))
    assert build_table([row(remark="x")]).notes == ["Columns not used: remark."]


@pytest.mark.parametrize("content,words", [(b"", "no column"), (b"\xff\xfe\x00\x01", "cannot be read as CSV")])
def test_what_is_no_table(tmp_path, content, words):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_ratings(tmp_path / "r.csv")


def test_nothing_to_analyse(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no ratings below the header"):
        read_ratings(written(tmp_path, []))
    with pytest.raises(InputError, match="no ratings"):
        build_table([])
    with pytest.raises(InputError, match="only practice cases"):
        build_table([row(practice=1)])
    (tmp_path / "r.parquet").write_bytes(b"no parquet")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_ratings(tmp_path / "r.parquet")
