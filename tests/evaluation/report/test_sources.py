import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kderm.evaluation.intervals import group_intervals
from kderm.evaluation.metrics import Scorecard
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report import sources
from kderm.evaluation.report.sources import score_by_source, sources_sentence
from kderm.labels import BINARY


def predictions(sources):
    """Scores that know the source and nothing else; half of source b is malignant, a tenth of a."""
    rng = np.random.default_rng(0)
    n = 400
    source = np.where(np.arange(n) < n // 2, "a", "b")
    malignant = rng.random(n) < np.where(source == "a", 0.1, 0.5)
    p = np.clip(np.where(source == "a", 0.2, 0.6) + 0.1 * rng.random(n), 0, 1)
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "group_id": [f"g{i // 2}" for i in range(n)],
            "label": np.where(malignant, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
        }
    )
    return make_predictions(table.assign(source=source) if sources else table, BINARY)


def test_each_source_is_scored_by_itself():
    found = predictions(sources=True)
    scores = score_by_source(found, resamples=50)
    for score in scores:
        mine = (found.table["source"] == score.source).to_numpy()
        expected = roc_auc_score(found.y[mine], found.probabilities[mine, 1])
        assert score.macro_auc == pytest.approx(expected)
        assert score.interval.low < score.macro_auc < score.interval.high
        assert (score.images, score.groups) == (200, 100)


def test_the_interval_of_a_source_is_that_of_one_resample_after_the_other():
    found = predictions(sources=True)
    mine = found.table[found.table["source"] == "b"].reset_index(drop=True)
    part = make_predictions(mine, BINARY)
    card = Scorecard(part.y, part.probabilities, BINARY)

    def plain(weights):
        return {"macro_auc": card(weights)["macro_auc"]}

    expected = group_intervals(plain, part.groups, resamples=40)["macro_auc"]
    (score,) = [score for score in score_by_source(found, resamples=40) if score.source == "b"]
    assert score.interval == expected  # to the last bit


def test_sources_are_scored_many_resamples_at_a_time(monkeypatch):
    shapes = []

    def watched(statistic, groups, **options):
        shapes.append(getattr(statistic, "batched", False))
        return group_intervals(statistic, groups, **options)

    monkeypatch.setattr(sources, "group_intervals", watched)
    score_by_source(predictions(sources=True), resamples=5)
    assert shapes == [True, True]


def test_a_score_that_is_for_telling_sources_apart_is_named():
    found = predictions(sources=True)
    scores = score_by_source(found, resamples=20)
    pooled = roc_auc_score(found.y, found.probabilities[:, 1])
    assert pooled > 0.65
    assert "telling them apart" in sources_sentence(scores, pooled)
    assert sources_sentence(scores, max(score.macro_auc for score in scores)) is None


def test_a_single_source_has_no_rows():
    assert score_by_source(predictions(sources=False)) == []
