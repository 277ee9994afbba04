"""A scikit-learn estimator for images: the same folds, recipe and ensemble as `cv`, by `fit`.

Around `kderm.api.runs`; what it is given is checked by `kderm.api.fit_input`, files are made of
it by `kderm.api.fitting`, and the fitted ensemble lies in `kderm.api.packed`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from kderm.api.arguments import is_int, require_count
from kderm.api.fit_input import as_wrong_input, checked_images, checked_targets
from kderm.api.fitting import fit_run
from kderm.api.given import Images
from kderm.api.loaded import LoadedEnsemble


class SkinLesionClassifier(ClassifierMixin, BaseEstimator):
    """A cross-validation ensemble of image classifiers as one scikit-learn classifier.

    `fit` splits the images it is given into folds, trains a member a fold, and keeps them all;
    `predict_proba` is their calibrated average. Options without a parameter are in `settings`.

    A pickled estimator holds no image, but the stems of the files of `fit`, the groups, the labels
    and the out-of-fold answers (in `oof_` and in the ensemble): where these name people, it is as
    personal as they are.

    Attributes:
        classes_: the labels of `y`, sorted; the order of the columns of `predict_proba`.
        oof_proba_: float64 (n, k), for each image of `fit` the answer of the member that did not
            see it, before calibration: the honest score of these images.
        oof_: the same as a table, with folds and groups; `kderm.evaluate` takes it.
        run_: path of the run's folder, where one was named, of its working copy where that was
            a URL; else None.
    """

    def __init__(
        self,
        *,
        folds: int = 5,
        preset: str = "keras_cv/efficientnetv2_b0_imagenet",
        weights: str = "preset",
        image_size: int = 224,
        epochs: int = 12,
        batch_size: int = 32,
        views: str = "flips",
        malignant: Sequence | None = None,
        settings: Mapping[str, Any] | None = None,
        run: str | None = None,
        n_jobs: int = 1,
        random_state: int | np.random.RandomState | None = 42,
        verbose: bool = False,
    ) -> None:
        """Args:
        folds: members, each trained without one fold of the images.
        preset: the backbone; see `python run.py weights list`.
        weights: "preset" for those that it names, "none", or a path.
        image_size: the network's input, pixels a side.
        epochs: of training.
        batch_size: images a step.
        views: test-time views.
        malignant: the labels that count as malignant; None for the label "malignant" where there
            is one, else for none.
        settings: other options by their keys, over the parameters: {"loss.name": "focal"}.
        run: name, path or URL of the folder to train in, which is kept with its report and goes
            on where it was stopped; None for a temporary one.
        n_jobs: folds at a time, in processes of their own.
        random_state: seed of folds and training.
        verbose: print what happens.
        """
        self.folds = folds
        self.preset = preset
        self.weights = weights
        self.image_size = image_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.views = views
        self.malignant = malignant
        self.settings = settings
        self.run = run
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Images, y: Sequence, groups: Sequence | None = None) -> "SkinLesionClassifier":
        """Train the ensemble.

        Args:
            X: n images: a uint8 array (n, h, w, 3), or a list of paths, of arrays, of files' bytes
                or of Pillow images.
            y: n labels, strings or integers, of two classes at least.
            groups: n ids of lesions or patients: images of one group stay in one fold. They are
                taken for lesions where the images of each have one label, else for patients. Where
                none is given, or None or NaN, an image is a group of its own; without any, that is
                told as a warning.

        Raises:
            UserError: which is also a ValueError; wrong input, fewer groups than folds, ...
        """
        images = checked_images(X)
        targets = checked_targets(y, len(images), self.malignant)
        seed = check_random_state(self.random_state)
        number = self.random_state if is_int(self.random_state) else int(seed.randint(2**31 - 1))
        with as_wrong_input(rows=True):
            require_count("n_jobs", "folds at a time", self.n_jobs)
            fitted = fit_run(
                images,
                targets,
                groups,
                settings=self._config(int(number)) | dict(self.settings or {}),
                run=self.run,
                jobs=self.n_jobs,
                verbose=self.verbose,
            )
        self.classes_ = targets.classes
        self.oof_ = fitted.oof
        self.oof_proba_ = fitted.answers
        self.run_ = None if self.run is None else str(fitted.path)
        self._packed = fitted.packed
        return self

    def predict_proba(self, X: Images) -> np.ndarray:
        """float64 (n, k): calibrated probabilities, columns as `classes_`, rows sum to 1.

        Raises:
            UserError: which is also a ValueError; an image that cannot be read.
        """
        check_is_fitted(self)
        with as_wrong_input():
            return self.ensemble().predict_proba(checked_images(X))

    def predict(self, X: Images) -> np.ndarray:
        """The likeliest of `classes_` for each of n images."""
        # Before the images are looked at: who is not fitted has nothing to say of them.
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def ensemble(self) -> LoadedEnsemble:
        """The fitted ensemble, for whole tables of answers, explanations and lesions."""
        check_is_fitted(self)
        return self._packed.ensemble()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_packed")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True  # paths
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        # A few epochs on a few images promise nothing.
        tags.classifier_tags.poor_score = True
        return tags

    def _config(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "folds.k": self.folds,
            "folds.seed": seed,
            "image.size": self.image_size,
            "model.preset": self.preset,
            "model.weights": self.weights,
            "train.epochs": self.epochs,
            "train.batch_size": self.batch_size,
            "predict.views": self.views,
        }
