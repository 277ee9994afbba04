"""`ensemble-predict --launcher ray`: Ray Data streams chunks of images through actors.

listing on this machine -> chunks of paths -> actors anywhere (decode, predict) -> finished chunks,
kept here -> predictions.csv, joined in the order of the listing. Each chunk is known by its number:
one that comes twice replaces itself, one that does not come is asked for again. A row is the one
that the local predictor gives, because chunks, decoder and members are the same.
"""

import hashlib
import io
import json
import logging
import os
import re
import warnings
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import kderm
from kderm.cluster.connection import Cluster, connected, environment
from kderm.cluster.shares import Share, share_of_gpus
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.cluster.listing import Listing
from kderm.ensemble.cluster.workers import ChunksFrom, Order, Predictor, bundle_files
from kderm.ensemble.engines.choose import open_engine
from kderm.ensemble.parts import Parts
from kderm.ensemble.place import told_clearly
from kderm.ensemble.predictor import Progress, chunk_of
from kderm.ensemble.settings import Settings
from kderm.errors import UserError, reason_of

# More cores than this do one ensemble little good; they hold several.
_CORES = 8
# Tasks that read the listing; with more chunks than this each brings several.
_BLOCKS = 2000
# Times that an actor is started again, and a chunk given to another, before the command ends.
_LOSSES = 5
# Times that the images are asked for which have not come.
_ROUNDS = 5


class Unreachable(UserError):
    """A worker's node did not answer, before Ray knew that it was gone and what to do instead."""


@dataclass(frozen=True)
class Job:
    """What is to be predicted, and how.

    Attributes:
        bundle: the ensemble.
        listing: the images.
        asked: how the answers are made.
        batch_size: images a forward pass.
        address: of the cluster; see `connected`.
    """

    bundle: Bundle
    listing: Listing
    asked: Settings
    batch_size: int
    address: str | None = None

    @property
    def chunk(self) -> int:
        """Images that are predicted and kept together."""
        return chunk_of(self.bundle)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-self.listing.images // self.chunk)

    def digest(self) -> str:
        """SHA-256 of everything that the parts depend on; the listing is read row by row."""
        facts = [kderm.__version__, self.bundle.digest, astuple(self.asked), self.chunk]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for row in self.listing.columns():
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def predict_missing(job: Job, parts: Parts, directory: Path, progress: Progress) -> int:
    """Predict the chunks that have no part yet.

    Args:
        job: what and how.
        parts: where finished chunks go.
        directory: of the results.
        progress: called with (images done, images).

    Returns:
        The number of images that had a part.

    Raises:
        UserError: no cluster, what a worker says that a user can mend, or no room here.
    """
    missing = _missing(job, parts)
    resumed = done = job.listing.images - sum(_length(job, number) for number in missing)
    progress(done, job.listing.images)
    if not missing:
        return resumed
    if job.asked.engine != "keras":  # exported here if it was not, so that all get one export
        settings = {"batch_size": job.batch_size}
        open_engine(job.bundle, job.asked.engine, job.asked.precision, **settings)
    files = bundle_files(job.bundle, job.asked)
    room = sum(map(len, files.values()))
    with connected(job.address, objects=room) as cluster:
        references = {name: cluster.ray.put(content) for name, content in files.items()}
        del files
        for _ in range(_ROUNDS):
            lost = None
            try:
                for number, part in _stream(cluster, job, missing, references):
                    if not parts.has(number):
                        with told_clearly(directory):
                            parts.save(number, part)
                        done += _length(job, number)
                        progress(done, job.listing.images)
            except Unreachable as error:
                lost = error
            missing = _missing(job, parts)
            if not missing:
                return resumed
    raise lost or UserError(
        f"Expected answers to {job.listing.images} images. Received: none to "
        f"{sum(_length(job, number) for number in missing)} of them, though the workers ended "
        "without an error. Repeat the command: what is there is kept."
    )


def _missing(job: Job, parts: Parts) -> list[int]:
    return [number for number in range(job.chunks) if not parts.has(number)]


def _length(job: Job, number: int) -> int:
    return min(job.chunk, job.listing.images - number * job.chunk)


def _stream(cluster: Cluster, job: Job, missing: list[int], references: dict) -> Any:
    """Finished chunks, (number, arrays), in the order in which they come."""
    ray, order = cluster.ray, _order(job, references)
    job.listing.ask_for(missing)
    data = _quiet_ray_data()
    share = prediction_share(cluster, len(missing))
    numbers = [{"id": number} for number in range(len(missing))]
    # Not `range`: its tasks would wait for cores that the actors have.
    chunks = data.from_items(numbers, override_num_blocks=min(len(missing), _BLOCKS)).map_batches(
        ChunksFrom,
        fn_constructor_args=[job.listing.file.absolute(), job.chunk, os.getcwd()],
        batch_size=None,
        # An actor: on a head without cores Ray ends the process of each task after it.
        compute=data.ActorPoolStrategy(size=1),
        num_cpus=0,
        runtime_env=environment(1),
        resources=cluster.this_machine(),
    )
    answers = chunks.map_batches(
        Predictor,
        fn_constructor_args=[order],
        batch_size=None,
        compute=data.ActorPoolStrategy(size=share.count),
        num_cpus=share.cpus,
        num_gpus=share.gpus,
        runtime_env=environment(share.threads),
        # Ray's own would try for ever a chunk that ends its actor (out of memory).
        max_restarts=_LOSSES,
        max_task_retries=_LOSSES,
    )
    try:
        for row in answers.iter_rows():
            if row["error"]:
                raise _failure(str(row["error"]))
            with np.load(io.BytesIO(row["part"]), allow_pickle=False) as part:
                yield int(row["number"]), dict(part)
    except ray.exceptions.RayError as error:
        exceptions = ray.exceptions
        passing = (exceptions.ActorUnavailableError, exceptions.NodeDiedError)
        passing += (exceptions.ObjectLostError,)
        raise (Unreachable if isinstance(error, passing) else UserError)(_lost(error)) from None


def _order(job: Job, references: dict) -> Order:
    return Order(references, job.asked, job.batch_size, job.listing.images, kderm.__version__)


def prediction_share(cluster: Cluster, chunks: int) -> Share:
    """One actor a GPU, else one for each so many cores; never more actors than chunks."""
    nodes = cluster.nodes()
    if (share := share_of_gpus(nodes)) is not None:
        return replace(share, count=min(chunks, share.count))
    cpus = min(_CORES, min(node.cpus for node in nodes))
    return Share(cpus, 0, min(chunks, sum(node.cpus // cpus for node in nodes)))


def _quiet_ray_data() -> Any:
    """Ray Data without bars and lines of its own."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # There is no other way to say max_restarts; pyproject.toml keeps to the versions that have it.
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated", module=re.escape(__name__))
    return ray.data


def _lost(error: Exception) -> str:
    return (
        "Expected workers that stay until their images are predicted. Received: "
        f"{reason_of(error)}. One that was lost again and again had too little memory more often "
        "than not: give a smaller predict.batch_size, or larger nodes, and repeat the command: "
        "what is there is kept."
    )


def _failure(told: str) -> Exception:
    """A user's mistake as one; anything else with the worker's own words."""
    if not told.startswith("Traceback"):
        return UserError(told)
    return RuntimeError(f"A worker of the cluster failed:\n{told}")
