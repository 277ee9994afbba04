"""The official ISIC scorer's numbers, against what the scorer itself gave."""

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.scores.isic import WEIGHTLESS, isic_scores
from kderm.labels import HAM10000

# Made once with isic-challenge-scoring 5.6.0 (scikit-learn 1.9.1, pandas 2.3.3):
#   isic-challenge-scoring -o json classification truth.csv submission.csv
# where `write_submission(table(), HAM10000, "submission.csv", "2018")` wrote the second file and
# the first held the one-hot truth in the same columns, sorted by image (it misplaces the weight of
# ISIC_0035068 when the truth is not sorted). Columns here are in the order of HAM10000.codes.
BALANCED_ACCURACY = 0.6550983436853003
OFFICIAL = {
    "accuracy": [
        0.5879396984924623,
        0.9195979899497487,
        0.9547738693467337,
        0.9195979899497487,
        0.9346733668341709,
        0.9246231155778895,
        0.9296482412060302,
    ],
    "sensitivity": [
        0.30434782608695654,
        0.3333333333333333,
        0.16666666666666666,
        0.4375,
        0.3125,
        0.4666666666666667,
        0.3125,
    ],
    "specificity": [
        0.9761904761904762,
        0.967391304347826,
        0.9792746113989638,
        0.9617486338797814,
        0.9890710382513661,
        0.9619565217391305,
        0.9836065573770492,
    ],
    "dice": [
        0.4605263157894737,
        0.38461538461538464,
        0.18181818181818182,
        0.4666666666666667,
        0.43478260869565216,
        0.4827586206896552,
        0.4166666666666667,
    ],
    "ppv": [0.9459459459459459, 0.45454545454545453, 0.2, 0.5, 0.7142857142857143, 0.5, 0.625],
    "npv": [
        0.5061728395061729,
        0.9468085106382979,
        0.9742268041237113,
        0.9513513513513514,
        0.9427083333333334,
        0.9567567567567568,
        0.9424083769633508,
    ],
    "auc": [
        0.7701345755693582,
        0.8293478260869566,
        0.7892918825561313,
        0.9011270491803278,
        0.8449453551912568,
        0.8782608695652174,
        0.8427254098360655,
    ],
    "auc_sens_80": [
        0.46242236024844724,
        0.5451086956521739,
        0.4835924006908463,
        0.8321379781420766,
        0.7146516393442623,
        0.8523550724637682,
        0.6315163934426229,
    ],
    "ap": [
        0.837914590953214,
        0.4552767281975643,
        0.19615520138775952,
        0.5926668888621173,
        0.5401899806645412,
        0.41397206781134627,
        0.49469957765690753,
    ],
}


def table():
    """200 images, one of them the synthetic one that has no weight; ids shuffled."""
    random = np.random.default_rng(2018)
    k, n = len(HAM10000), 200
    y = random.integers(0, k, n) * random.integers(0, 2, n)
    peak = np.where(random.random(n) < 0.6, y, random.integers(0, k, n))
    odds = random.integers(1, 12, (n, k)) + random.integers(0, 60, (n, 1)) * np.eye(k)[peak]
    rows = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=HAM10000.columns)
    rows["image_id"] = [f"ISIC_{number:07d}" for number in range(34950, 35150)]
    rows["label"] = [HAM10000.codes[j] for j in y]
    return rows.sample(frac=1, random_state=0)


def test_every_number_is_the_official_scorers():
    found = isic_scores(make_predictions(table(), HAM10000))
    assert found["balanced_accuracy"] == pytest.approx(BALANCED_ACCURACY, abs=1e-12)
    for name, values in OFFICIAL.items():
        own = [found["per_category"][code][name] for code in HAM10000.codes]
        assert own == pytest.approx(values, abs=1e-12), name
        assert found["macro_average"][name] == pytest.approx(np.mean(values), abs=1e-12), name
    assert set(found["macro_average"]) == set(OFFICIAL)


def test_the_synthetic_image_of_2018_counts_for_nothing():
    rows = table()
    with_it = isic_scores(make_predictions(rows, HAM10000))
    without = isic_scores(make_predictions(rows[rows["image_id"] != WEIGHTLESS], HAM10000))
    assert WEIGHTLESS in set(rows["image_id"])
    for code in HAM10000.codes:
        assert with_it["per_category"][code] == pytest.approx(without["per_category"][code])
    renamed = rows.assign(image_id=rows["image_id"].replace(WEIGHTLESS, "another"))
    assert isic_scores(make_predictions(renamed, HAM10000)) != with_it


def test_a_rate_without_an_image_is_one_and_an_area_without_a_positive_is_undefined():
    rows = table()
    rows = rows[rows["label"] != "df"].copy()
    rows["p_df"] = 0.0
    columns = HAM10000.columns
    rows[columns] = rows[columns].div(rows[columns].sum(axis=1), axis=0)
    own = isic_scores(make_predictions(rows, HAM10000))
    absent = own["per_category"]["df"]
    assert absent["sensitivity"] == absent["ppv"] == absent["dice"] == 1
    assert all(np.isnan(absent[name]) for name in ("auc", "auc_sens_80", "ap"))
    assert 0 < own["macro_average"]["auc"] < 1
