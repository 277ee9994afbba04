"""One call of `ensemble-predict --launcher ray`, from what was asked for to the summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.cluster.folder_listing import list_folders
from kderm.ensemble.cluster.listing import Listing, listing_of
from kderm.ensemble.cluster.outcome import write_streamed
from kderm.ensemble.cluster.predict import Job, predict_missing
from kderm.ensemble.inputs import Inputs, find_inputs
from kderm.ensemble.parts import Parts
from kderm.ensemble.place import FIGURES, check_directory, held, refuse_other_sources, told_clearly
from kderm.ensemble.predictor import Progress, settings_of
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.result import Summary, write_result
from kderm.errors import UserError
from kderm.leftovers import temporary_beside


@dataclass(frozen=True)
class Found:
    """The images: in a listing, and in a table too where more than their files is known."""

    listing: Listing
    inputs: Inputs | None


def predict_on_cluster(
    bundle: Bundle,
    sources: Sequence[str],
    directory: Path,
    *,
    views: str | None = None,
    combine: str | None = None,
    batch_size: int = 32,
    engine: str = "keras",
    precision: str | None = None,
    early_exit: float | None = None,
    progress: Progress = lambda done, total: None,
    prevalence: Prevalence | None = None,
    address: str | None = None,
) -> Summary:
    """Predict all images that `sources` name, as `ensemble_predict` does, on a Ray cluster.

    Args:
        bundle: the ensemble.
        sources: see `find_inputs`.
        directory: where results go.
        views, combine, batch_size, engine, precision, early_exit: see `ensemble_predict`.
        progress: called with (images done, images).
        prevalence: shares of the classes that the answers are corrected to; None for none.
        address: of the cluster; see `kderm.cluster.connection.connected`.

    Raises:
        UserError: as `find_inputs` and `ensemble_predict`, and where there is no cluster.
    """
    asked = settings_of(bundle, views, combine, engine, precision, early_exit)
    if batch_size < 1:
        raise UserError(f"A batch needs at least 1 image. Received: a batch size of {batch_size}.")
    with held(directory), temporary_beside(directory / "listing.db") as file:
        found = find(bundle, sources, file)
        shown = found.inputs or found.listing.inside(directory / FIGURES)
        check_directory(directory, shown)
        refuse_other_sources(directory, bundle, shown)
        job = Job(bundle, found.listing, asked, batch_size, address)
        with told_clearly(directory):
            parts = Parts(directory, job.digest())
        resumed = predict_missing(job, parts, directory, progress)
        outcome = {"settings": asked, "resumed": resumed, "prevalence": prevalence}
        if found.inputs is None:
            summary = write_streamed(
                bundle, found.listing, parts, directory, chunk=job.chunk, **outcome
            )
        else:
            answers = _collect(parts, job.chunks)
            summary = write_result(bundle, found.inputs, answers, directory, **outcome)
        parts.remove()
    return summary


def find(bundle: Bundle, sources: Sequence[str], file: Path) -> Found:
    """List the images in the database `file`; in memory too only where more is known of them."""
    if bundle.metadata is None:
        listing = list_folders(sources, bundle.labels, file)
        if listing is not None:
            return Found(listing, None)
        file.unlink(missing_ok=True)
    inputs = find_inputs(sources, bundle.labels)
    spec = bundle.metadata
    metadata = None if spec is None else np.asarray(spec.encode(inputs.table), np.float32)
    return Found(listing_of(inputs, file, metadata), inputs)


def _collect(parts: Parts, count: int) -> dict[str, np.ndarray]:
    """The arrays of all chunks, joined in order."""
    loaded = [parts.load(number) for number in range(count)]
    return {name: np.concatenate([part[name] for part in loaded]) for name in loaded[0]}
