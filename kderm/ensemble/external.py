"""`evaluate --external`: images from elsewhere, without those that the members were trained on.

Compares the images with the run's own by id, file and picture, leaves out what is in both, and has
the rest predicted and reported by `kderm.ensemble.predictor`. `overlap.csv` beside the report says
what was left out, or what was kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from kderm import console, run_dir
from kderm.atomic import write_csv, write_text
from kderm.data.fingerprints import Fingerprints, file_fingerprints, store_fingerprints
from kderm.data.overlap import COLUMNS, find, same_ids
from kderm.data.store import ImageStore
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.inputs import Inputs, find_inputs
from kderm.ensemble.predictor import ensemble_predict
from kderm.errors import UserError
from kderm.run_dir import RunDir

OVERLAP = "overlap.csv"
_WORDS = {"id": "by id", "digest": "by file", "picture": "by picture"}


@dataclass(frozen=True)
class Comparison:
    """What is known of the overlap of some images with those of a run.

    Attributes:
        table: a row an image that is in both: image_id, path, label, training_image_id,
            training_label, by, similarity; the best evidence only.
        training_images: how many images of the run were compared.
        how: by what they were compared, in words.
        warning: what could not be compared, or "".
    """

    table: pd.DataFrame
    training_images: int
    how: str
    warning: str

    def text(self, images: int, overlap: str) -> str:
        """What was found, for people."""
        lines = [f"WARNING: {self.warning}"] if self.warning else []
        counts = self.table["by"].value_counts()
        kinds = ", ".join(f"{counts[by]} {words}" for by, words in _WORDS.items() if by in counts)
        done = "left out" if overlap == "remove" else "KEPT, so this is no test of unseen images"
        found = f": {kinds}; {done}" if len(self.table) else ""
        lines.append(
            f"overlap with the {self.training_images} images of the run ({self.how}): "
            f"{len(self.table)} of {images} image(s){found}"
        )
        both = self.table[(self.table["label"] != "") & (self.table["training_label"] != "")]
        differ = both[both["label"] != both["training_label"]]
        if len(differ):
            first = differ.iloc[0]
            lines.append(
                f"WARNING: {len(differ)} of them have another label here than in the run, for "
                f"example {first['image_id']} ({first['label']}, there {first['training_label']})"
            )
        return "\n".join(lines)


def evaluate_external(
    run: RunDir,
    sources: Sequence[str],
    *,
    out: Path | None = None,
    overlap: Literal["remove", "keep"] = "remove",
) -> str:
    """Audit the overlap of labelled images with a run's own, predict the rest, and report.

    Args:
        run: a finished run.
        sources: folders of class folders, CSVs and patterns; see `find_inputs`.
        out: where results go; by default `runs/<run>/external/<name>/`.
        overlap: what is done about images that the run has too.

    Returns:
        What was found and done, for people.

    Raises:
        UserError: no image has a known label, none is left, or the folder holds other results.
    """
    bundle = read_bundle(run.path)
    inputs = find_inputs(sources, bundle.labels)
    _refuse_unlabelled(inputs, sources)
    directory = out or run.external / _name(sources)
    if out is None:
        _refuse_other_sources(directory, inputs)
    found = compare(run, bundle, inputs)
    kept = inputs
    if overlap == "remove" and len(found.table):
        stays = ~inputs.table["image_id"].isin(set(found.table["image_id"]))
        kept = replace(inputs, table=inputs.table[stays].reset_index(drop=True))
        if not kept.labelled:
            raise UserError(
                f"All {inputs.labelled} labelled image(s) are among those that the run "
                f"{run.name!r} was trained on, so nothing is left to score. Choose other images, "
                "or score these all the same with --overlap keep."
            )
    with console.progress("predicting") as report:
        summary = ensemble_predict(bundle, kept, directory, progress=report)
    text = found.text(len(inputs), overlap)
    write_csv(directory / OVERLAP, found.table)
    if summary.report is not None:
        body = summary.report.read_text(encoding="utf-8").rstrip()
        write_text(summary.report, f"{body}\n\n## Overlap with the run's own images\n\n{text}\n")
    return f"{text}\n{summary}\nOverlap: {directory / OVERLAP}"


def compare(run: RunDir, bundle: Bundle, inputs: Inputs) -> Comparison:
    """Find the inputs that are among a run's images.

    Files and pictures are compared if the run's image store is there, else ids alone.
    """
    training = _training_table(run, bundle)
    names = inputs.table["image_id"].tolist()
    known = training["image_id"].tolist()
    prints = _training_fingerprints(run, bundle, training)
    pairs = _by_id(known, inputs)
    if prints is None:
        how, warning = "by id alone", _no_store(run, bool(known))
    else:
        with console.progress("comparing with the run's images") as report:
            paths = inputs.table["path"].tolist()
            mine = file_fingerprints(names, paths, bundle.spec, progress=report)
        pairs = pd.concat([pairs, find(prints, mine)], ignore_index=True)
        how, warning = "by id, file and picture", ""
        gone = int((~prints.has_digest).sum())
        if gone:
            warning = f"{gone} of the run's image files are gone; those were compared by picture"
    table = _described(pairs, inputs, training)
    return Comparison(table, len(known), how, warning)


def _by_id(known: list[str], inputs: Inputs) -> pd.DataFrame:
    """Pairs of a training id with an input of that id or that file name."""
    names = inputs.table["image_id"].tolist()
    by_stem = {
        Path(path).stem: name for name, path in zip(names, inputs.table["path"], strict=True)
    }
    by_file = same_ids(known, list(by_stem))
    by_file["image_id_2"] = by_file["image_id_2"].map(by_stem)
    return pd.concat([same_ids(known, names), by_file], ignore_index=True)


def _described(pairs: pd.DataFrame, inputs: Inputs, training: pd.DataFrame) -> pd.DataFrame:
    """One row an input that is in both, with what is known on both sides."""
    strongest = pairs.assign(rank=pairs["by"].map({by: n for n, by in enumerate(_WORDS)}))
    strongest = strongest.sort_values(["rank", "similarity"], ascending=[True, False])
    strongest = strongest.drop_duplicates("image_id_2").set_index("image_id_2")
    mine = inputs.table[inputs.table["image_id"].isin(strongest.index)]
    table = mine[["image_id", "path", "label"]].reset_index(drop=True)
    match = strongest.loc[table["image_id"]].reset_index(drop=True)
    label = training.drop_duplicates("image_id").set_index("image_id")["label"]
    table["training_image_id"] = match["image_id_1"]
    table["training_label"] = match["image_id_1"].map(label).fillna("")
    table[COLUMNS[2:]] = match[COLUMNS[2:]]
    return table


def _training_table(run: RunDir, bundle: Bundle) -> pd.DataFrame:
    """Columns image_id, path, label of the run's images; path "" where only ids are known."""
    columns = ["image_id", "path", "label"]
    if run.manifest.is_file():
        table = pd.read_csv(run.manifest, dtype=str, keep_default_na=False)
        if set(columns) <= set(table.columns):
            return table[columns]
    ids = sorted(bundle.trained_on() or ())
    return pd.DataFrame({"image_id": ids, "path": "", "label": ""}, columns=columns, dtype=str)


def _training_fingerprints(
    run: RunDir, bundle: Bundle, training: pd.DataFrame
) -> Fingerprints | None:
    """Of the run's own images, from its image store; None where that is gone."""
    try:
        digest = json.loads(run.store.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    shared = run_dir.store_dir(digest)
    for directory in (shared, run.path.parent / shared.relative_to(run_dir.runs_root())):
        try:
            store = ImageStore.open(directory)
        except UserError:
            continue
        if store.digest == digest and store.spec == bundle.spec:
            paths = dict(zip(training["image_id"], training["path"], strict=True))
            with console.progress("reading the run's files for their digests") as report:
                return store_fingerprints(store, paths, progress=report).of(paths)
    return None


def _no_store(run: RunDir, ids_known: bool) -> str:
    if not ids_known:
        return (
            f"nothing is left of the run's images (neither {run.manifest.name} nor "
            f"{run.oof.name}), so nobody can tell whether these are among them"
        )
    return (
        "the run's decoded images are gone, so copies under other names cannot be found. The "
        "command prepare with the run's config brings them back"
    )


def _refuse_unlabelled(inputs: Inputs, sources: Sequence[str]) -> None:
    if not inputs.labelled:
        raise UserError(
            "Expected images with labels to score: class folders, or a CSV with a label column. "
            f"Received {len(inputs)} image(s) without any in {', '.join(map(str, sources))}. For "
            "predictions without a report use the command ensemble-predict."
        )


def _refuse_other_sources(directory: Path, inputs: Inputs) -> None:
    """Names come from the sources, and two folders "images" have one name."""
    try:
        known = json.loads((directory / "sources.json").read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if sorted(known) != sorted(inputs.sources):
        raise UserError(
            f"{directory} holds the results of other images: {', '.join(known[:3])}. Received: "
            f"{', '.join(inputs.sources[:3])}. Choose another folder with --out."
        )


def _name(sources: Sequence[str]) -> str:
    """A folder name for the results of `sources`."""
    name = Path(sources[0]).resolve().stem.replace("*", "_") or "images"
    return name if len(sources) == 1 else f"{name}_and_{len(sources) - 1}_more"
