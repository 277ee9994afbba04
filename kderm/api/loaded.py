"""An ensemble in memory: images in, answers out, nothing written to disk.

The same members, views, calibration and thresholds as `ensemble-predict`, and the same columns as
its predictions.csv; only where the pixels come from and where the table goes differ.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kderm.api.arguments import in_arguments, require_count
from kderm.api.given import Given, Images, Metadata, given_images
from kderm.counting import counted
from kderm.data.images import ImageSource
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.cautions import all_warnings, count_seen
from kderm.ensemble.lesion_table import lesion_table
from kderm.ensemble.predictor import Ensemble, chunk_of, settings_of
from kderm.ensemble.prevalence import Prevalence, stated_prevalence
from kderm.ensemble.read_ahead import decoded_chunks
from kderm.ensemble.result_table import calibrated_answer, result_table
from kderm.errors import UserError
from kderm.labels import LabelSpace
from kderm.run_dir import open_run
from kderm.runtime import check_backend

if TYPE_CHECKING:
    from kderm.api.explanation import Explanation
    from kderm.explain.activation_maps import Evidence


@dataclass(frozen=True)
class Answers:
    """What the ensemble says of some images.

    Attributes:
        table: one row an image, the columns and values of predictions.csv.
        lesions: one row a lesion, those of lesions.csv; None where no lesion was named.
        cautions: what makes the answers worth less than they look, a sentence each.
        notes: what was found out about the images beforehand, a sentence each.
    """

    table: pd.DataFrame
    lesions: pd.DataFrame | None
    cautions: tuple[str, ...]
    notes: tuple[str, ...]


class LoadedEnsemble:
    """A bundle whose members stay in memory. Safe to call from several threads: one at a time.

    Attributes:
        bundle: what was frozen when the run was finished.
        labels: the label space; probabilities have its order.
        settings: how the members answer.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        views: str | None = None,
        combine: str | None = None,
        engine: str = "keras",
        precision: str | None = None,
        early_exit: float | None = None,
        batch_size: int = 32,
    ) -> None:
        """Args:
        bundle: the ensemble.
        views: test-time views; None for the bundle's, as for the next three.
        combine: "probability", "logit" or "oof".
        engine: "keras", "onnx" or "openvino".
        precision: "float32", "bfloat16" or "int8".
        early_exit: standard error of a probability at which an image gets no further views.
        batch_size: images a forward pass.

        Raises:
            UserError: unknown views, way of combining, engine or precision.
        """
        self.bundle = bundle
        self.labels: LabelSpace = bundle.labels
        self.settings = settings_of(bundle, views, combine, engine, precision, early_exit)
        self._ensemble = Ensemble(bundle, self.settings, batch_size)
        self._trained_on = bundle.trained_on()
        self._evidence: list[Evidence] | None = None
        self._lock = threading.Lock()

    @property
    def classes(self) -> tuple[str, ...]:
        """The class codes, in the order of the probabilities."""
        return self.labels.codes

    def predict(
        self,
        images: Images,
        *,
        metadata: Metadata | None = None,
        prevalence: str | None = None,
    ) -> pd.DataFrame:
        """One row an image, with the columns and values of predictions.csv.

        An image that cannot be read has its row too, with the reason in `error`.

        Args:
            images: see `kderm.api.given.given_images`.
            metadata: some of lesion_id, patient_id, age, sex, site and source, each one value for
                all images or n values.
            prevalence: shares of the classes that the answers are corrected to, as "mel=0.02".

        Raises:
            UserError: nothing to predict, a prevalence or metadata that do not fit.
        """
        return self.answer(images, metadata=metadata, prevalence=prevalence).table

    def predict_proba(self, images: Images, *, metadata: Metadata | None = None) -> np.ndarray:
        """float64 (n, k): calibrated probabilities in label-space order, rows sum to 1.

        Raises:
            UserError: as `predict`, an image that cannot be read, or answers that are no numbers.
        """
        table = self.predict(images, metadata=metadata)
        bad = table[table["error"] != ""]
        if len(bad):
            first = bad.iloc[0]
            raise UserError(
                f"Expected images that can be read. Received {len(bad)} of {len(table)} that "
                f"cannot, the first one {first['path'] or first['image_id']}: {first['error']}. "
                "Leave them out, or call predict, which gives each its row."
            )
        probabilities = table[self.labels.columns].to_numpy(np.float64)
        unknown = int((~np.isfinite(probabilities).all(axis=1)).sum())
        if unknown:
            raise UserError(
                "Expected a probability for each class. Received answers that are no numbers for "
                f"{unknown:,} of {counted(len(table), 'image')}: a member has lost its weights in "
                "training. Train the run anew, with a lower train.learning_rate."
            )
        # They were rounded to what predictions.csv holds.
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def predict_lesions(
        self,
        images: Images,
        lesion_ids: Sequence[str] | str = "lesion",
        *,
        metadata: Metadata | None = None,
        prevalence: str | None = None,
    ) -> pd.DataFrame:
        """One row a lesion, by the rule of lesions.csv: the mean of its images.

        Args:
            images, metadata, prevalence: as for `predict`.
            lesion_ids: for each image the lesion that it shows; one name if all show the same.

        Raises:
            UserError: as `predict`.
        """
        known = {} if metadata is None else {name: metadata[name] for name in metadata}
        known["lesion_id"] = lesion_ids
        lesions = self.answer(images, metadata=known, prevalence=prevalence).lesions
        if lesions is None:
            raise UserError("Expected a lesion id for at least one image. Received: none.")
        return lesions

    def answer(
        self,
        images: Images,
        *,
        metadata: Metadata | None = None,
        prevalence: str | None = None,
        threads: int | None = None,
    ) -> Answers:
        """All that there is to say of the images: the tables, and what weakens them.

        Args and errors are those of `predict`, and:
            threads: images that are decoded at a time; None for one a core, at most 16.
        """
        if threads is not None:
            require_count("threads", "images decoded at a time", threads)
        shares = None
        if prevalence is not None:
            with in_arguments({"after --prevalence": "in prevalence, as text,"}):
                shares = stated_prevalence(self.bundle, str(prevalence))
        given = given_images(images, self.labels, metadata)
        with self._lock:
            arrays = self._arrays(given, threads)
        return self._told(given, arrays, shares)

    def explain(
        self,
        image: ImageSource,
        *,
        target: str | None = None,
        metadata: Metadata | None = None,
        answer: pd.Series | None = None,
        side: int = 480,
    ) -> "Explanation":
        """What in one picture speaks for the answer, or for another class. Needs Keras.

        Args:
            image: a path, the bytes of a file, a Pillow image or a uint8 array (h, w, 3).
            target: a class's code or name, or "malignant"; None for the predicted class.
            metadata: as for `predict`.
            answer: the image's row of `predict`; None to predict it now.
            side: shorter side of the picture that is drawn on, pixels.

        Raises:
            UserError: an image that cannot be read, or no such class.
        """
        check_backend()
        from kderm.api.explanation import explain_one, load_evidence

        given = given_images([image], self.labels, metadata)
        if answer is None:
            answer = self.predict([image], metadata=metadata).iloc[0]
        spec = self.bundle.metadata
        with self._lock:
            if self._evidence is None:
                self._evidence = load_evidence(self.bundle)
            return explain_one(
                self.bundle,
                self._evidence,
                image,
                answer,
                self.settings.views,
                target=target,
                metadata=None if spec is None else spec.encode(given.inputs.table),
                side=side,
            )

    def _arrays(self, given: Given, threads: int | None) -> dict[str, np.ndarray]:
        """The arrays of `Ensemble.answer`, of all images."""
        images = list(zip(given.sources, given.inputs.table["problem"], strict=True))
        step, spec = chunk_of(self.bundle), self.bundle.metadata
        encoded = None if spec is None else spec.encode(given.inputs.table)
        found = []
        chunks = _chunks(images, step)
        for decoded in decoded_chunks(chunks, self.bundle.spec, threads=threads):
            start = decoded.number * step
            known = None if encoded is None else encoded[start : start + step]
            found.append(self._ensemble.answer(decoded, lambda done: None, known))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _told(
        self, given: Given, arrays: dict[str, np.ndarray], shares: Prevalence | None
    ) -> Answers:
        bundle, inputs = self.bundle, given.inputs
        table = result_table(bundle, inputs, arrays, shares)
        before = calibrated_answer(bundle, arrays["probabilities"])
        lesions = lesion_table(bundle, inputs, table, before)
        readable = (table["error"] == "").to_numpy()
        seen = count_seen(self._trained_on, inputs, readable)
        return Answers(
            table=table,
            lesions=None if lesions is None else lesions.table,
            cautions=all_warnings(bundle, inputs, table, self.settings, seen),
            notes=inputs.notes,
        )


def load_ensemble(
    run: str | os.PathLike | None = None,
    *,
    views: str | None = None,
    combine: str | None = None,
    engine: str = "keras",
    precision: str | None = None,
    early_exit: float | None = None,
    batch_size: int = 32,
) -> LoadedEnsemble:
    """The ensemble of a run, ready to answer.

    Args:
        run: name of a run below `runs/` (or KDERM_RUNS), or the path of a run, of a folder that
            holds a bundle, or of an `ensemble.json`; None for the newest finished run.
        views, combine, precision, early_exit: None for what the bundle says; see `LoadedEnsemble`.
        engine: "keras", "onnx" or "openvino".
        batch_size: images a forward pass.

    Raises:
        UserError: no such run, one that is not finished, a bundle that was changed.
    """
    is_file = run is not None and os.path.isfile(run)
    return LoadedEnsemble(
        read_bundle(run if is_file else open_run(run).path),
        views=views,
        combine=combine,
        engine=engine,
        precision=precision,
        early_exit=early_exit,
        batch_size=batch_size,
    )


def _chunks(
    images: Sequence[tuple[ImageSource, str]], step: int
) -> Iterable[tuple[int, Sequence[tuple[ImageSource, str]]]]:
    for number, start in enumerate(range(0, len(images), step)):
        yield number, images[start : start + step]
