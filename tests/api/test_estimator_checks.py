"""scikit-learn's own checks of an estimator, as far as they make sense for images.

They feed rows of numbers. `OnRows` draws each row as a small image, so that everything behind that
is the estimator's: parameters, classes, folds, fitting, pickling, order of rows. What would test
nothing but this drawing is left out, each check with its reason.
"""

import warnings

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_array, check_is_fitted

from kderm.api.estimator import SkinLesionClassifier

SIDE = 32

_ROWS = "looks at how rows of numbers are validated; images are, in test_estimator.py"
_NONE = "the estimator has no such method or attribute"
_PIXELS = "arrays of other libraries: pixels are numpy's"
LEFT_OUT = {
    "check_n_features_in": "images have no number of features",
    "check_n_features_in_after_fitting": "images of any size may come after fit",
    "check_complex_data": _ROWS,
    "check_estimators_empty_data_messages": _ROWS,
    "check_estimators_nan_inf": _ROWS,
    "check_estimator_sparse_tag": _ROWS,
    "check_estimator_sparse_array": _ROWS,
    "check_estimator_sparse_matrix": _ROWS,
    "check_fit1d": _ROWS,
    "check_fit2d_1sample": _ROWS,
    "check_fit2d_predict1d": _ROWS,
    "check_positive_only_tag_during_fit": _ROWS,
    "check_classifiers_one_label_sample_weights": "fit takes no weights of samples",
    "check_estimators_partial_fit_n_features": _NONE,
    "check_non_transformer_estimators_n_iter": _NONE,
    "check_decision_proba_consistency": _NONE,
    "check_array_api_input": _PIXELS,
    "check_array_api_mixed_inputs": _PIXELS,
    "check_array_api_same_namespace": _PIXELS,
}
# Those that fit so often that they take long.
SLOW = {
    "check_readonly_memmap_input",
    "check_estimators_dtypes",
    "check_dtype_object",
    "check_pipeline_consistency",
    "check_f_contiguous_array_estimator",
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_supervised_y_2d",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_fit2d_1feature",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_estimators_pickle",
}


class OnRows(SkinLesionClassifier):
    """Rows of numbers (n, f), drawn as images: a stripe a number, its value as brightness."""

    def fit(self, X, y, groups=None):
        X = check_array(X, dtype=np.float64)
        self.low_, self.span_ = X.min(axis=0), np.maximum(np.ptp(X, axis=0), 1e-9)
        return super().fit(self.drawn(X), y, groups)

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(self.drawn(check_array(X, dtype=np.float64)))

    def drawn(self, X):
        values = np.rint(255 * np.clip((X - self.low_) / self.span_, 0, 1)).astype(np.uint8)
        images = np.zeros((len(X), SIDE, SIDE, 3), np.uint8)
        width = max(1, SIDE // values.shape[1])
        for number, column in enumerate(values.T):
            stripe = slice(number * width, (number + 1) * width)
            images[:, :, stripe, number % 3] = column[:, None, None]
        return images

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        return tags


def estimator():
    return OnRows(
        folds=2,
        preset="kderm/small_cnn",
        weights="none",
        image_size=SIDE,
        epochs=1,
        views="none",
        settings={"train.frozen_epochs": 0},
    )


def checks():
    """(name, check) of all that scikit-learn would run."""
    for _, check in estimator_checks_generator(estimator()):
        yield getattr(check, "func", check).__name__, check


def chosen():
    for name, check in checks():
        if name not in LEFT_OUT:
            yield pytest.param(check, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("check", chosen())
def test_it_passes_scikit_learns_check(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator())  # which asserts itself


def test_every_check_that_is_left_out_or_slow_is_one_of_scikit_learns():
    # Newer releases of scikit-learn have checks that older ones lack, never the other way round.
    known = {name for name, _ in checks()}
    assert SLOW - known == set()
    assert {name for name in LEFT_OUT if "array_api" not in name} - known <= {
        "check_classifiers_one_label_sample_weights"
    }
    assert not SLOW & set(LEFT_OUT)


def test_most_checks_run():
    names = {name for name, _ in checks()}
    assert len(names - set(LEFT_OUT)) >= 35
