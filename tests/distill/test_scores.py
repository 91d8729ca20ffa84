"""The score report by hand and against scipy; what must not change it; the scorers it warns of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from mta4dpr.distill import scores as module
from mta4dpr.distill.groups import Groups, open_groups
from mta4dpr.distill.scores import describe as describe_groups
from mta4dpr.distill.scores import kendall_tau_b, lines, warnings
from mta4dpr.machine.files import write_json

TEACHER = [[2, 1, 0, -1], [1, 1, 0, 0]]
ASSISTANT = [[3, 0, 1, -1], [0, 1, 1, 1]]


def describe(groups: Groups, *, persistence: float = 0.9, **more: Any) -> Any:
    """With the persistence that is the default of `rbo_p`."""
    return describe_groups(groups, persistence=persistence, **more)


def groups_of(
    teacher: Any, *assistants: Any, kept: Any = None, temperatures: dict[str, float] | None = None, calibration: str = "temperature"
) -> Groups:
    """An open dataset with the teacher t and the assistants a, b, ...; temperature 1 where none is given."""
    scores = {label: np.array(matrix, np.float32) for label, matrix in zip("tabcd", (teacher, *assistants), strict=False)}
    shape = scores["t"].shape
    labels = list(scores)
    about = {
        "teacher": "t",
        "assistants": labels[1:],
        "previous": False,
        "calibration": calibration,
        "temperatures": {label: 1.0 for label in labels} | (temperatures or {}),
    }
    relevant = np.zeros(shape, bool)
    relevant[:, 0] = True
    return Groups(
        queries=np.arange(len(scores["t"]), dtype=np.int32),
        passages=np.arange(np.prod(shape), dtype=np.int32).reshape(shape),
        kept=np.ones(shape, bool) if kept is None else np.array(kept, bool),
        relevant=relevant,
        scores=scores,
        about=about,
    )


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def entropy_of(scores: list[float]) -> float:
    return -sum(p * math.log(p) for p in softmax(scores))


def random_groups(seed: int, *, number: int = 12, group: int = 5, drop: bool = False, levels: int = 0) -> Groups:
    """Three scorers; with `levels` scores are one of so many, so that there are ties, else all scores of a group differ."""
    generator = np.random.default_rng(seed)
    shape = (3, number, group)
    matrices = generator.integers(0, levels, shape) if levels else generator.permuted(np.tile(np.arange(50), (3, number, 1)), axis=2)
    matrices = matrices[:, :, :group] / 4
    kept = generator.random(shape[1:]) < 0.7 if drop else np.ones(shape[1:], bool)
    kept[:, 0] = True
    return groups_of(*matrices, kept=kept, temperatures={"t": 2.0, "a": 0.5, "b": 3.0})


# --- values ---


def test_the_teachers_row_by_hand() -> None:
    """Standard deviations sqrt(1.25) and 1/2; the second group has ties, and its positive shares the top, so it is not first."""
    row = describe(groups_of(TEACHER, ASSISTANT))["t"]
    entropies = [entropy_of(scores) for scores in TEACHER]
    assert row == {
        "groups": 2,
        "single": 0,
        "chance": 0.25,
        "lowest": -1.0,
        "highest": 2.0,
        "spread": pytest.approx((math.sqrt(1.25) + 0.5) / 2),
        "ties": 0.5,
        "constant": 0.0,
        "positive_first": 0.5,
        "temperature": 1.0,
        "entropy": pytest.approx(sum(entropies) / 2, abs=1e-6),
        "entropy_share": pytest.approx(sum(entropies) / 2 / math.log(4), abs=1e-6),
    }


def test_agreement_with_the_teacher_by_hand() -> None:
    """Kendall: 1 of 6 pairs turned is 2/3; two of 4 x 3 untied pairs turned and none right is -2 / sqrt(12).

    Overlap: prefixes 1, 1/2, 1, 1 and, ties by position, 0, 1/2, 2/3, 1 with weights 0.1, 0.09, 0.081, 0.0729
    and a tail of 0.6561; at a persistence of 1/2 the weights are 1/2, 1/4, 1/8, 1/16 and the tail is 1/16.
    """
    row = describe(groups_of(TEACHER, ASSISTANT))["a"]
    assert row["kendall"] == pytest.approx((2 / 3 - 2 / math.sqrt(12)) / 2)
    assert row["kendall_undefined"] == 0
    assert row["rbo"] == pytest.approx((0.955 + 0.828) / 2, abs=1e-6)
    halves = 0.5 + 0.25 / 2 + 0.125 + 0.0625 + 0.0625, 0 + 0.25 / 2 + 0.125 * 2 / 3 + 0.0625 + 0.0625
    assert describe(groups_of(TEACHER, ASSISTANT), persistence=0.5)["a"]["rbo"] == pytest.approx(sum(halves) / 2, abs=1e-6)
    divergences = [
        sum(p * math.log(p / q) for p, q in zip(softmax(t), softmax(a), strict=True)) for t, a in zip(TEACHER, ASSISTANT, strict=True)
    ]
    assert row["kl"] == pytest.approx(sum(divergences) / 2, abs=1e-6)
    assert row["positive_first"] == 0.5


def test_the_direction_of_kl_is_the_teacher_first() -> None:
    """KL(1/2, 1/2 || 3/4, 1/4) is 0.1438, the other direction 0.1308."""
    row = describe(groups_of([[0, 0]], [[math.log(3), 0]]))["a"]
    assert row["kl"] == pytest.approx(0.5 * math.log(4 / 3), abs=1e-6)


def test_the_teacher_has_no_agreement_with_itself_and_comes_first() -> None:
    report = describe(groups_of(TEACHER, ASSISTANT, TEACHER))
    assert list(report) == ["t", "a", "b"]
    assert {"kendall", "kendall_undefined", "kl", "rbo"} == set(report["a"]) - set(report["t"])
    assert [report["b"][name] for name in ("kl", "rbo")] == pytest.approx([0, 1], abs=1e-6)
    assert report["b"]["kendall"] == pytest.approx(1)


def test_entropy_is_that_of_the_calibrated_softmax() -> None:
    """Raw scores ten times as large at temperature 10: equal entropy and no divergence, ten times the spread."""
    scaled = np.array(TEACHER) * 10
    report = describe(groups_of(TEACHER, scaled, temperatures={"t": 1.0, "a": 10.0}))
    assert report["a"]["entropy"] == pytest.approx(report["t"]["entropy"], abs=1e-6)
    assert report["a"]["kl"] == pytest.approx(0, abs=1e-6)
    assert report["a"]["spread"] == pytest.approx(10 * report["t"]["spread"])
    assert report["a"]["temperature"] == 10.0
    other = describe(groups_of(TEACHER, scaled * 7, calibration="zscore"))["a"]
    standard = [[(x - np.mean(row)) / np.std(row) for x in row] for row in TEACHER]
    assert other["entropy"] == pytest.approx(np.mean([entropy_of(row) for row in standard]), abs=1e-5)


def test_dropped_passages_have_no_part() -> None:
    """What is dropped may hold the extremes, the ties and the top: the row is that of the kept ones alone."""
    kept = [[True, True, False, False], [True, True, False, False]]
    wide = groups_of([[2, 1, 99, 99], [1, 3, 3, -99]], [[1, 0, 0, 50], [0, 1, 0, 50]], kept=kept)
    narrow = groups_of([[2, 1], [1, 3]], [[1, 0], [0, 1]])
    found, expected = describe(wide), describe(narrow)
    for label in "ta":
        assert found[label] == pytest.approx(expected[label], abs=1e-6)
    assert found["t"]["highest"] == 3.0
    assert found["t"]["ties"] == 0.0
    assert found["t"]["chance"] == 0.5
    assert describe(groups_of([[1, 1, 5]], kept=[[True, True, False]]))["t"]["constant"] == 1.0


def test_groups_of_one_kept_passage_are_counted_and_left_out() -> None:
    """Alone, a positive is always first and its group always constant: that would praise the scorer and blame it for nothing."""
    kept = [[True, False], [True, True]]
    found, alone = describe(groups_of([[7, 9], [0, 1]], [[7, 9], [0, 1]], kept=kept)), describe(groups_of([[0, 1]], [[0, 1]]))
    assert found["a"] == {**alone["a"], "groups": 2, "single": 1, "highest": 7.0}
    assert found["a"]["positive_first"] == found["a"]["constant"] == 0.0


def test_where_nothing_is_defined_there_is_none() -> None:
    """JSON has no NaN: only groups of one, and no groups at all."""
    for groups in (groups_of([[1, 2]], [[1, 2]], kept=[[True, False]]), groups_of(np.empty((0, 4)), np.empty((0, 4)))):
        report = describe(groups)
        assert report["a"]["groups"] == report["a"]["single"] == len(groups.kept)
        assert report["a"]["kendall_undefined"] == 0
        names = ("chance", "spread", "ties", "constant", "positive_first", "entropy", "entropy_share", "kendall", "kl", "rbo")
        assert all(report["a"][name] is None for name in names)
        assert warnings(report) == []
        assert len(lines(report)) == 3
        json.dumps(report, allow_nan=False)


def test_scores_beyond_what_a_softmax_holds_are_none() -> None:
    """1e30 / 1e-30 is infinite and its softmax NaN; the raw values are numbers still."""
    report = describe(groups_of([[1e30, -1e30]], [[-1e30, 1e30]], temperatures={"t": 1e-30, "a": 1e-30}))
    json.dumps(report, allow_nan=False)
    assert report["t"]["entropy"] is report["t"]["entropy_share"] is report["a"]["kl"] is None
    assert report["t"]["spread"] == pytest.approx(1e30)
    assert report["a"]["kendall"] == pytest.approx(-1)
    assert warnings(report) == []


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), group=st.integers(2, 7), levels=st.integers(1, 5), drop=st.booleans())
def test_kendall_is_scipys(seed: int, group: int, levels: int, drop: bool) -> None:
    """With ties, with dropped passages, and undefined where scipy says NaN."""
    groups = random_groups(seed, group=group, levels=levels, drop=drop)
    a, b, kept = groups.scores["t"].astype(np.float64), groups.scores["a"].astype(np.float64), groups.kept  # scipy keeps to float32
    expected = np.array([kendalltau(x[k], y[k]).statistic if k.sum() > 1 else np.nan for x, y, k in zip(a, b, kept, strict=True)])
    np.testing.assert_allclose(kendall_tau_b(a, b, kept), expected, atol=1e-12)
    row = describe(groups)["a"]
    assert row["kendall"] == (pytest.approx(np.nanmean(expected)) if np.isfinite(expected).any() else None)
    assert row["kendall_undefined"] == (np.isnan(expected) & (kept.sum(axis=1) > 1)).sum()


# --- the sample ---


def test_the_sample_is_evenly_spaced_from_first_to_last() -> None:
    """Ten groups whose spread is the number of the group: four are 0, 3, 6 and 9."""
    groups = groups_of([[0.0, 2.0 * n] for n in range(10)])
    row = describe(groups, sample=4)["t"]
    assert (row["groups"], row["highest"], row["spread"]) == (4, 18.0, (0 + 3 + 6 + 9) / 4)
    assert describe(groups, sample=1)["t"]["groups"] == 1
    assert describe(groups, sample=10) == describe(groups, sample=2000)
    assert describe(groups)["t"]["spread"] == 4.5


@pytest.mark.parametrize("pairs", [1, 50, 80])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """One, two and three groups of five at once, against all twelve."""
    groups = random_groups(3, drop=True, levels=4)
    whole = describe(groups)
    monkeypatch.setattr(module, "PAIRS", pairs)
    for label, row in describe(groups).items():
        assert row == pytest.approx(whole[label], abs=1e-6)


def test_reads_a_dataset_from_disk(tmp_path: Path) -> None:
    """The arrays are memory-mapped there, and read-only."""
    groups = random_groups(4, drop=True)
    (tmp_path / "scores").mkdir()
    for name in ("queries", "passages", "kept", "relevant"):
        np.save(tmp_path / f"{name}.npy", getattr(groups, name))
    for n, array in enumerate(groups.scores.values()):
        np.save(tmp_path / "scores" / f"{n}.npy", array)
    write_json(tmp_path / "groups.json", groups.about)
    opened = open_groups(tmp_path)
    assert opened is not None
    assert isinstance(opened.scores["t"], np.memmap)
    assert describe(opened, sample=7) == describe(groups, sample=7)


# --- invariances ---


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([0, 3]), drop=st.booleans())
def test_a_constant_added_to_a_querys_scores_changes_lowest_and_highest_alone(seed: int, levels: int, drop: bool) -> None:
    """Method, section 4. Whole numbers, so that ties stay ties."""
    groups = random_groups(seed, levels=levels, drop=drop)
    before = describe(groups)
    shift = np.random.default_rng(seed).integers(-20, 20, (len(groups.kept), 1)).astype(np.float32)
    groups.scores["a"] = groups.scores["a"] + shift
    after = describe(groups)
    for row in (before["a"], after["a"]):
        row["lowest"] = row["highest"] = 0
    for label, row in before.items():
        assert after[label] == pytest.approx(row, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([0, 3]), drop=st.booleans())
def test_the_order_of_the_negatives_changes_nothing(seed: int, levels: int, drop: bool) -> None:
    """The same order of columns for all scorers, another for each group. Ties are broken by position in rbo: there it may."""
    groups = random_groups(seed, levels=levels, drop=drop)
    before = describe(groups)
    generator = np.random.default_rng(seed)
    order = np.stack([[0, *(1 + generator.permutation(groups.kept.shape[1] - 1))] for _ in groups.kept])
    groups.kept = np.take_along_axis(groups.kept, order, axis=1)
    groups.scores = {label: np.take_along_axis(array, order, axis=1) for label, array in groups.scores.items()}
    after = describe(groups)
    for label, row in before.items():
        if levels and label != "t":
            row["rbo"] = after[label]["rbo"] = 0
        assert after[label] == pytest.approx(row, abs=1e-5)


# --- warnings and the table ---


def first_of(label: str, report: Any) -> list[str]:
    return [sentence for sentence in warnings(report) if sentence.startswith(f"{label}: ")]


def test_scores_that_differ_need_no_warning() -> None:
    report = describe(groups_of(TEACHER, ASSISTANT))
    assert warnings(report) == []


@pytest.mark.parametrize(("high", "warned"), [(9.0, True), (4.0, False)])
def test_a_softmax_on_one_passage(high: float, warned: bool) -> None:
    """Logits of 9 against 0: 0.4 % of ln 4; of 4 against 0: 19 %. The remedy of a teacher is not that of an assistant."""
    report = describe(groups_of([[high, 0, 0, 0]], [[high, 0, 0, 0]]))
    found = warnings(report)
    assert [sentence[:3] for sentence in found] == (["t: ", "a: "] if warned else [])
    if warned:
        assert "at least 5% of the greatest entropy, found 0." in found[0]
        assert "stands on one passage" in found[0]
        assert "set tau_teacher higher" in found[0]
        assert "calibration: temperature" in found[1]


@pytest.mark.parametrize(("spread", "warned"), [(0.1, True), (1.0, False)])
def test_a_flat_softmax(spread: float, warned: bool) -> None:
    """A cosine teacher at temperature 1: 0.8 against 0.7 is 99.8 % of ln 2; one unit is 84 %."""
    report = describe(groups_of([[0.7 + spread, 0.7]]))
    found = warnings(report)
    assert len(found) == warned
    if warned:
        assert "at most 99% of the greatest entropy, found 99." in found[0]
        assert "set tau_teacher lower" in found[0]


@pytest.mark.parametrize("share", [module.COLLAPSED, module.FLAT])
def test_the_thresholds_themselves_are_fine(share: float) -> None:
    """Below 5 % and above 99 %, not at them."""
    report = describe(groups_of(TEACHER))
    for off, expected in ((0.0, 0), (1e-6 if share == module.FLAT else -1e-6, 1)):
        report["t"]["entropy_share"] = share + off
        assert len(warnings(report)) == expected


def test_constant_scores_are_said_once() -> None:
    """They are flat, too, and never have the positive first; the cause is one. One group that differs is no constant scorer."""
    report = describe(groups_of(np.full((3, 4), 0.5), np.full((3, 4), 2.0)))
    assert report["t"]["constant"] == report["t"]["ties"] == 1.0
    assert report["t"]["positive_first"] == report["t"]["spread"] == 0.0
    assert report["t"]["entropy_share"] == pytest.approx(1, abs=1e-6)
    assert (report["a"]["kendall"], report["a"]["kendall_undefined"]) == (None, 3)
    assert [len(first_of(label, report)) for label in "ta"] == [1, 1]
    assert "the same score for all its passages in every group" in warnings(report)[0]
    nearly = describe(groups_of([[1, 1, 1], [1, 1, 1], [4, 1, 0]]))
    assert nearly["t"]["constant"] == pytest.approx(2 / 3)
    assert not any("the same score" in sentence for sentence in warnings(nearly))


def test_a_teacher_below_chance() -> None:
    """One positive of five first, where four passages give 1.25: swapped columns, or a wrong pooling. Assistants may be weak."""
    below = [[0, 1, 2, 3]] * 4 + [[3, 2, 1, 0]]
    report = describe(groups_of(below, below))
    assert report["t"]["positive_first"] == pytest.approx(0.2)
    (found,) = warnings(report)
    assert found.startswith("t: expected a teacher")
    assert "more groups than chance (25.0%), found 20.0%" in found
    assert warnings(describe(groups_of([*below[1:], below[-1]]))) == []  # 2 of 5


def test_the_table_has_a_scorer_a_line_and_aligned_columns() -> None:
    """What is absent or None is a dash."""
    report = describe(groups_of(TEACHER, ASSISTANT))
    report["t"] |= {"spread": 0.8090, "ties": 0.5, "entropy_share": 0.8024, "positive_first": 1.0}
    report["a"] |= {
        "spread": 12.34,
        "ties": 0.0,
        "entropy_share": None,
        "positive_first": 0.3333,
        "kendall": -0.0447,
        "kl": 1.25,
        "rbo": 0.9,
    }
    report["simlm-teacher"] = report.pop("t")
    assert lines(report) == [
        "scorer         spread   ties  entropy  positive first  kendall     kl    rbo",
        "a                12.3   0.0%        -           33.3%   -0.045  1.250  0.900",
        "simlm-teacher   0.809  50.0%    80.2%          100.0%        -      -      -",
    ]
