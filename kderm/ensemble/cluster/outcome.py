"""The end of a prediction on a cluster: finished chunks to predictions.csv, a chunk at a time.

For images of which nothing but the file is known. With labels, lesions or metadata the table is
made in memory, by `kderm.ensemble.result`.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import atomic_path
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.cautions import count_seen, warnings_of
from kderm.ensemble.cluster.listing import Listing
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.parts import Parts
from kderm.ensemble.place import PREDICTIONS, told_clearly
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.result import Summary, clear_result, passes_told
from kderm.ensemble.result_table import as_text, result_table
from kderm.ensemble.settings import Settings


class Tally:
    """What a summary says of all rows, added up chunk by chunk."""

    def __init__(self) -> None:
        self.images = self.readable = self.flagged = self.unlike = 0
        self.predicted: Counter[str] = Counter()
        self.passes, self.most = 0.0, 0.0

    def add(self, table: pd.DataFrame) -> None:
        """Count the rows of one chunk, columns of `result_table`."""
        self.images += len(table)
        self.readable += int((table["error"] == "").sum())
        self.flagged += int((table["malignant"] == 1).sum())
        self.unlike += int((table["unlike_training"] == 1).sum())
        self.predicted.update(table["predicted"])
        passes = table["passes"].to_numpy()[(table["error"] == "").to_numpy()]
        self.passes += float(passes.sum())
        self.most = max(self.most, float(passes.max(initial=0.0)))


def write_streamed(
    bundle: Bundle,
    listing: Listing,
    parts: Parts,
    directory: Path,
    *,
    chunk: int,
    settings: Settings,
    resumed: int,
    prevalence: Prevalence | None,
) -> Summary:
    """Write predictions.csv as `write_result` does, and sum up; memory is that of one chunk.

    Args:
        bundle: the ensemble that answered.
        listing: the images.
        parts: all chunks.
        directory: where to write.
        chunk: images of a chunk.
        settings: how the answers were made.
        resumed: images that an interrupted call had predicted.
        prevalence: what the calibrated answers are corrected to; None for no correction.
    """
    tally, trained_on = Tally(), bundle.trained_on()
    seen = None if trained_on is None else 0
    everything = Inputs(
        *(pd.DataFrame(), listing.sources, listing.skipped, listing.repeated),
        notes=listing.notes,
        warnings=listing.warnings,
    )
    with told_clearly(directory):
        clear_result(directory, everything, prevalence)
        with (
            atomic_path(directory / PREDICTIONS) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as handle,
        ):
            for number in range(-(-listing.images // chunk)):
                start = number * chunk
                inputs = listing.slice(start, min(start + chunk, listing.images))
                table = result_table(bundle, inputs, parts.load(number), prevalence)
                as_text(table).to_csv(handle, index=False, lineterminator="\n", header=not number)
                tally.add(table)
                if seen is not None:
                    seen += count_seen(trained_on, inputs, (table["error"] == "").to_numpy())
    return Summary(
        predictions=directory / PREDICTIONS,
        report=None,
        images=tally.images,
        unreadable=tally.images - tally.readable,
        skipped=listing.skipped,
        repeated=listing.repeated,
        resumed=resumed,
        predicted={code: tally.predicted[code] for code in bundle.labels.codes},
        flagged=None if bundle.threshold is None else tally.flagged,
        lesions=None,
        prevalence=prevalence,
        early_exit=_early_exit_note(tally, settings),
        labelled=0,
        seen=seen,
        metrics=None,
        notes=listing.notes,
        warnings=warnings_of(
            *(bundle, everything, settings),
            answered=tally.readable,
            unlike=tally.unlike,
            seen=seen,
        ),
    )


def _early_exit_note(tally: Tally, settings: Settings) -> str:
    if not settings.early_exit:
        return ""
    mean = tally.passes / tally.readable if tally.readable else np.nan
    return f"forward passes an image: {passes_told(mean, tally.most, settings)}"
