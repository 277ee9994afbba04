"""`ensemble-predict`: a bundle and any images become predictions.csv, and a report with labels.

files -> frames (in threads, a chunk ahead) -> members x views (`kderm.ensemble.passes`) -> one
answer an image. Memory stays flat in the number of images, finished chunks survive an interruption,
and an image's answer depends on nothing but its file, the bundle, the views, the way of combining,
the engine's precision and the tolerance of the early exit; the batch's shape is felt in the
rounding alone. Imports Keras only with the engine that needs it.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np

import kderm
from kderm import console
from kderm.data.views import view_rounds, view_transforms
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.combine import average_members, fold_sd, normalised_entropy
from kderm.ensemble.engines.choose import check_engine, open_engine
from kderm.ensemble.image_files import size_and_time
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.parts import Parts
from kderm.ensemble.passes import Exit, Passed, Passes
from kderm.ensemble.place import check_directory, held, refuse_other_sources, told_clearly
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.read_ahead import Decoded, decoded_chunks
from kderm.ensemble.result import Summary, write_result
from kderm.ensemble.rounding import significant
from kderm.ensemble.settings import Settings
from kderm.ensemble.unlike import unlike_of
from kderm.errors import UserError
from kderm.evaluation.uncertainty.disagreement import (
    disagreement,
    mutual_information,
    vote_agreement,
)
from kderm.models.averaging import average_views, check_how

Progress = Callable[[int, int], None]

# Frames of one chunk; two are held at a time.
MAX_CHUNK_BYTES = 256 * 1024**2
CHUNK = 512


def ensemble_predict(
    bundle: Bundle,
    inputs: Inputs,
    directory: Path,
    *,
    views: str | None = None,
    combine: str | None = None,
    batch_size: int = 32,
    engine: str = "keras",
    precision: str | None = None,
    early_exit: float | None = None,
    progress: Progress | None = None,
    chunk: int = CHUNK,
    prevalence: Prevalence | None = None,
) -> Summary:
    """Predict all `inputs` with all members and write predictions.csv into `directory`.

    After an interruption the same call goes on behind the last finished chunk. After a finished one
    it predicts anew and replaces the result, in the run's own folder only one of the same sources.

    Args:
        bundle: the ensemble.
        inputs: what `find_inputs` found.
        directory: where results go; made if absent.
        views: test-time views; None for the bundle's.
        combine: "probability", "logit" or "oof"; None for the bundle's.
        batch_size: images a forward pass; changes speed, memory and the rounding.
        engine, precision: see `Settings`; None for the bundle's precision. Members are exported to
            an engine that has none yet.
        early_exit: see `Settings`; None for the bundle's.
        progress: called with (images done, images).
        chunk: images that are decoded, predicted and kept together, fewer if frames are large.
        prevalence: shares of the classes that the answers are corrected to; None for none.

    Raises:
        UserError: unknown views, way of combining or engine, a directory that cannot be written,
            that another call is writing to or that holds the result of other sources, a member that
            does not fit the bundle.
    """
    directory = Path(directory)
    asked = settings_of(bundle, views, combine, engine, precision, early_exit)
    check_directory(directory, inputs)
    chunk = chunk_of(bundle, chunk)
    ensemble = Ensemble(bundle, asked, batch_size, len(inputs))
    with held(directory):
        refuse_other_sources(directory, bundle, inputs)
        with told_clearly(directory):
            parts = Parts(directory, _digest(bundle, asked, chunk, inputs))
        resumed = _predict_missing(ensemble, inputs, parts, chunk, directory, progress or _silent)
        answers = _collect(parts, -(-len(inputs) // chunk))
        outcome = {"settings": asked, "resumed": resumed, "prevalence": prevalence}
        summary = write_result(bundle, inputs, answers, directory, **outcome)
        parts.remove()
    return summary


def chunk_of(bundle: Bundle, asked: int = CHUNK) -> int:
    """Images that are decoded and predicted together: what is asked for, fewer of large frames."""
    return max(1, min(asked, MAX_CHUNK_BYTES // (3 * bundle.spec.height * bundle.spec.width)))


def settings_of(
    bundle: Bundle,
    views: str | None = None,
    combine: str | None = None,
    engine: str = "keras",
    precision: str | None = None,
    early_exit: float | None = None,
) -> Settings:
    """What was asked for, else what the bundle does; refused where there is no such thing."""
    facts = bundle.facts
    asked = Settings(
        views=views or facts.views,
        combine=combine or facts.combine,
        engine=engine,
        precision=precision or facts.precision,
        early_exit=facts.early_exit if early_exit is None else early_exit,
    )
    check_how(asked.combine)
    check_engine(asked.engine, asked.precision)
    view_transforms(asked.views, bundle.frame)
    return asked


class Ensemble:
    """All members of a bundle, loaded at first use, and how their answers become one."""

    def __init__(
        self, bundle: Bundle, asked: Settings, batch_size: int, images: int | None = None
    ) -> None:
        """Args:
        bundle: the members.
        asked: how they answer.
        batch_size: images a forward pass.
        images: how many there are to come, if that is known.
        """
        if batch_size < 1:
            raise UserError(
                f"A batch needs at least 1 image. Received: a batch size of {batch_size}."
            )
        self.bundle, self.asked, self.batch_size, self.images = bundle, asked, batch_size, images
        self._weights = bundle.member_weights if asked.combine == "oof" else None
        self._passes: Passes | None = None
        self._unlike = unlike_of(bundle)

    def answer(
        self,
        decoded: Decoded,
        progress: Callable[[int], None],
        metadata: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """The arrays of one chunk; numbers are NaN where the image could not be read.

        Args:
            decoded: the chunk.
            progress: called with the number of images done.
            metadata: float32 (chunk length, d), encoded, for members that take them.

        Returns:
            "probabilities" float64 (n, k) rounded as they will be written; "fold_sd",
            "malignant_sd", "entropy", "mutual_information", "disagreement", "vote_agreement" and
            "unlike" float64 (n,), the last NaN where the bundle has no such score; "passes" float64
            (n,), forward passes that the image cost; "error" str (n,).
        """
        if metadata is not None:
            metadata = metadata[decoded.readable]
        passed = self._run()(decoded.frames, metadata, progress)
        members = self._members(passed)
        unlike = np.full(len(members), np.nan)
        if self._unlike is not None and len(members):
            unlike = self._unlike.score(passed.features)
        by_member = members.swapaxes(0, 1)  # (m, n, k)
        how = self.asked.combine
        probabilities = significant(average_members(members, how, self._weights))
        classes = len(self.bundle.labels)
        predicted = np.eye(classes, dtype=bool)[probabilities.argmax(axis=1)]
        malignant = np.isin(np.arange(classes), self.bundle.labels.malignant_indices)
        found = {
            "probabilities": probabilities,
            "fold_sd": significant(fold_sd(members, predicted)),
            "malignant_sd": significant(fold_sd(members, malignant)),
            "entropy": significant(normalised_entropy(probabilities)),
            "mutual_information": significant(mutual_information(by_member, self._weights)),
            "disagreement": significant(disagreement(by_member)),
            "vote_agreement": significant(vote_agreement(by_member)),
            "unlike": significant(unlike),
            "passes": passed.passes.astype(np.float64),
        }
        spread = {}
        for name, values in found.items():
            spread[name] = np.full((len(decoded.readable), *values.shape[1:]), np.nan)
            spread[name][decoded.readable] = values
        return spread | {"error": np.array(decoded.errors, dtype=np.str_)}

    def _members(self, passed: Passed) -> np.ndarray:
        """float64 (n, m, k): each member's answer, averaged over the views that it was shown."""
        n, members, _, classes = passed.probabilities.shape
        averaged = np.empty((n, members, classes), np.float64)
        for rounds in np.unique(passed.rounds):
            rows = passed.rounds == rounds
            seen = passed.probabilities[rows, :, :rounds]
            averaged[rows] = average_views(seen, self.asked.combine)
        return averaged

    def _run(self) -> Passes:
        if self._passes is None:
            bundle, asked = self.bundle, self.asked
            views = view_transforms(asked.views, bundle.frame)
            images = self.images
            if images is not None and not asked.early_exit:
                images *= len(view_rounds(images, len(views), self.batch_size)[0])
            engine = open_engine(
                bundle,
                asked.engine,
                asked.precision,
                batch_size=self.batch_size,
                images=images,
                say=console.say,
            )
            self._passes = Passes(
                engine,
                views,
                len(bundle.labels),
                Exit(asked.early_exit, tuple(bundle.labels.malignant_indices)),
            )
        return self._passes


def _predict_missing(
    ensemble: Ensemble,
    inputs: Inputs,
    parts: Parts,
    chunk: int,
    directory: Path,
    progress: Progress,
) -> int:
    """Predict the chunks that have no part yet; the number of images that had one."""
    images = list(zip(inputs.table["path"], inputs.table["problem"], strict=True))
    chunks = [
        (number, images[start : start + chunk])
        for number, start in enumerate(range(0, len(images), chunk))
    ]
    missing = [item for item in chunks if not parts.has(item[0])]
    resumed = done = len(images) - sum(len(rows) for _, rows in missing)
    spec = ensemble.bundle.metadata
    metadata = None if spec is None else spec.encode(inputs.table)
    progress(done, len(images))
    for decoded in decoded_chunks(missing, ensemble.bundle.spec):

        def report(count: int, before: int = done) -> None:
            progress(before + count, len(images))

        start = decoded.number * chunk
        known = None if metadata is None else metadata[start : start + chunk]
        answer = ensemble.answer(decoded, report, known)
        with told_clearly(directory):
            parts.save(decoded.number, answer)
        done += len(decoded.readable)
        progress(done, len(images))
    return resumed


def _collect(parts: Parts, count: int) -> dict[str, np.ndarray]:
    """The arrays of all chunks, joined in order."""
    loaded = [parts.load(number) for number in range(count)]
    return {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0]}


def _digest(bundle: Bundle, asked: Settings, chunk: int, inputs: Inputs) -> str:
    """SHA-256 of everything that the parts depend on."""
    files = [
        (os.path.abspath(path), problem, *size_and_time(path))
        for path, problem in zip(inputs.table["path"], inputs.table["problem"], strict=True)
    ]
    spec = bundle.metadata
    known = inputs.table[list(spec.names)].to_numpy().tolist() if spec else []
    facts = [kderm.__version__, bundle.digest, astuple(asked), chunk, files, known]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _silent(done: int, total: int) -> None:
    """No one watches."""
