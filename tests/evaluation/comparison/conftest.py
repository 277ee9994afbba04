"""Runs that answer the same made-up images, as well as asked."""

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000, LabelSpace

THREE = LabelSpace("custom", ("mel", "nv", "bkl"), ("Melanoma", "Nevus", "Keratosis"), ("mel",))


def table(skill, *, n=120, seed=0, labels=HAM10000, folds=3, images_a_group=2):
    """Image `i` shows the same class and lesion whatever the skill and the seed."""
    truth = np.random.default_rng(99).integers(0, len(labels), n // images_a_group + 1)
    group = np.arange(n) // images_a_group
    y = truth[group]
    logits = np.random.default_rng(seed).normal(size=(n, len(labels)))
    logits[np.arange(n), y] += skill
    odds = np.exp(logits)
    rows = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=labels.columns)
    rows["image_id"] = [f"i{i:04d}" for i in range(n)]
    rows["group_id"] = [f"L{g}" for g in group]
    rows["label"] = np.array(labels.codes)[y]
    if folds:
        rows["fold"] = group % folds
    return rows


def answered(skill, *, labels=HAM10000, **other):
    """The same, validated."""
    return make_predictions(table(skill, labels=labels, **other), labels)


@pytest.fixture(name="answered")
def answered_fixture():
    """Makes predictions of a skill."""
    return answered


@pytest.fixture(name="table")
def table_fixture():
    """Makes tables of a skill."""
    return table


@pytest.fixture
def three():
    """A label space with melanoma alone malignant."""
    return THREE
