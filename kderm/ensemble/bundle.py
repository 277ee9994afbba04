"""The bundle: `ensemble.json` beside its members, all that predicting needs.

Written when every fold of a run is finished, from the folds' `done.json` and out-of-fold tables;
read by `ensemble-predict`, which never needs the run's config again. Opens no model and no image.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import kderm
from kderm.atomic import write_json
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.data.images import DECODER_VERSION, ImageSpec
from kderm.data.metadata import MetadataSpec
from kderm.ensemble.bounded import JSON_BYTES, parse_json, read_bounded
from kderm.ensemble.bundle_facts import FORMAT, BundleFacts, MemberFacts, PriorFacts
from kderm.ensemble.combine import member_weights
from kderm.ensemble.unlike import unlike_facts
from kderm.errors import UserError
from kderm.evaluation.calibration.prevalence import implied_prior
from kderm.evaluation.calibration.scaling import (
    Kind,
    Scaling,
    fit_scaling,
    nested_calibration,
    scaled,
)
from kderm.evaluation.decisions.operating_points import malignant_operating_point
from kderm.evaluation.decisions.points import FrozenPoint, choose_points
from kderm.evaluation.predictions import (
    Predictions,
    join_predictions,
    read_predictions,
    write_predictions,
)
from kderm.evaluation.uncertainty.conformal import ConformalSets, fit_conformal
from kderm.labels import LabelSpace, label_space
from kderm.run_dir import RunDir
from kderm.storage.places import file_sha256


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        directory: where `ensemble.json` is.
        facts: what it says.
        digest: SHA-256 of the file, which covers the members by their own digests.
    """

    directory: Path
    facts: BundleFacts
    digest: str

    @property
    def labels(self) -> LabelSpace:
        """The label space; its order is the order of the members' outputs."""
        return LabelSpace.from_dict(self.facts.labels.model_dump())

    @property
    def spec(self) -> ImageSpec:
        """The frame that files are decoded to."""
        image = self.facts.image
        return ImageSpec(image.stored_height, image.stored_width, image.preprocess)

    @property
    def metadata(self) -> MetadataSpec | None:
        """How metadata are encoded for the members; None for members of the image alone."""
        facts = self.facts.metadata
        return None if facts is None else MetadataSpec.from_dict(facts.model_dump())

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.spec.height, self.spec.width

    @property
    def member_paths(self) -> list[Path]:
        """The members' model files, in fold order."""
        return [self.directory / member.path for member in self.facts.members]

    @property
    def needed_files(self) -> list[str]:
        """Names of the files beside `ensemble.json` that `read_bundle` asks for."""
        unlike = [] if self.facts.unlike is None else [self.facts.unlike.file]
        return [*(member.path for member in self.facts.members), *unlike]

    @property
    def member_weights(self) -> np.ndarray:
        """float64 (m,), sums to 1: each member's weight for combine="oof"."""
        if len(self.facts.members) == 1:
            return np.ones(1)
        return member_weights([member.scores for member in self.facts.members])

    @property
    def threshold(self) -> float | None:
        """Images whose malignant probability is at or above it are flagged."""
        frozen = self.facts.malignant_threshold
        return None if frozen is None else frozen.value

    @property
    def unlike_threshold(self) -> float | None:
        """Images whose score is at or above it look unlike those of training; None without."""
        return None if self.facts.unlike is None else self.facts.unlike.threshold

    @property
    def calibration(self) -> Scaling | None:
        """What makes the members' average calibrated; None for a bundle without."""
        facts = self.facts.calibration
        return None if facts is None else Scaling.from_dict(facts.model_dump(exclude={"fitted_on"}))

    @property
    def prior(self) -> PriorFacts | None:
        """The shares of the classes that a correction starts from; None for a bundle without."""
        return self.facts.prior

    @property
    def operating_points(self) -> list[FrozenPoint]:
        """The frozen thresholds, on calibrated probabilities."""
        return [
            FrozenPoint.from_dict(point.model_dump(exclude={"fitted_on"}))
            for point in self.facts.operating_points
        ]

    @property
    def conformal(self) -> ConformalSets | None:
        """The sets of classes, on calibrated probabilities; None for a bundle without."""
        facts = self.facts.conformal
        return None if facts is None else ConformalSets.from_dict(facts.model_dump())

    def calibrated(self, predictions: Predictions) -> Predictions:
        """`predictions` as made by members, on the scale of the bundle's thresholds."""
        return predictions if self.calibration is None else scaled(predictions, self.calibration)

    def trained_on(self) -> set[str] | None:
        """Ids of the images that a member was trained on; None if the OOF table is gone."""
        path = RunDir(self.directory).oof
        if not path.is_file():
            return None
        try:
            table = read_predictions(path, self.labels).table
        except UserError:  # a damaged table costs a warning, not the predictions
            return None
        if len(self.facts.members) == 1:
            table = table[table["fold"] != self.facts.members[0].fold]
        return set(table["image_id"])


def join_oof(run: RunDir) -> Predictions:
    """Join the out-of-fold tables of all folds by image id, and write `runs/<run>/oof.csv`.

    Raises:
        UserError: folds are missing (named, with the command that finishes them), or a table does
            not belong to its fold.
    """
    config = _config(run)
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    parts = []
    for fold, done in _finished_folds(run, config).items():
        part = read_predictions(run.fold(fold).oof, labels)
        strangers = part.table.loc[part.folds != fold, "image_id"]
        if len(strangers) or len(part) != done["held_out_images"]:
            raise UserError(
                f"{run.fold(fold).oof} must hold the {done['held_out_images']} images that fold "
                f"{fold} held out. Received {len(part)} rows, {len(strangers)} of another fold. "
                + _train_again(run, fold)
            )
        parts.append(part)
    joined = join_predictions(parts)
    write_predictions(run.oof, joined)
    return joined


def write_bundle(run: RunDir, calibration: Kind = "temperature") -> Bundle:
    """Write `runs/<run>/ensemble.json` (and `oof.csv`) of a finished run.

    Calibration, thresholds and sets are fitted here, on the out-of-fold table, and frozen.

    Args:
        run: the run.
        calibration: "temperature", which leaves every predicted class as it is, or "vector", which
            also takes back what class weights did to the shares of the classes, and with it moves
            predictions from rare classes to common ones.

    Raises:
        UserError: as `join_oof`, or a model file is not the one that its fold finished with.
    """
    config = _config(run)
    oof = join_oof(run)
    members, finished = [], _finished_folds(run, config)
    for fold, done in finished.items():
        model = run.fold(fold).model
        if not model.is_file() or file_sha256(model) != done["model_sha256"]:
            raise UserError(
                f"{model} is not the model that fold {fold} finished with (its SHA-256 differs "
                f"from {run.fold(fold).done}). " + _train_again(run, fold)
            )
        members.append(
            {
                "fold": fold,
                "path": model.relative_to(run.path).as_posix(),
                "sha256": done["model_sha256"],
                "scores": done["scores"],
            }
        )
    height, width = config.image.stored_shape
    facts = BundleFacts.model_validate(
        {
            "format": FORMAT,
            "kderm": kderm.__version__,
            "run": run.path.absolute().name,
            "synthetic": config.data.is_demo,
            "labels": oof.labels.to_dict(),
            "image": {
                "size": config.image.size,
                "stored_height": height,
                "stored_width": width,
                "decoder": DECODER_VERSION,
                "preprocess": config.image.preprocess,
            },
            "metadata": _shared_metadata(run, finished),
            "views": config.predict.views,
            "combine": config.predict.combine,
            "precision": config.predict.precision,
            "early_exit": config.predict.early_exit,
            "members": members,
            **_fitted(oof, calibration),
            "unlike": unlike_facts(run.path, [member["sha256"] for member in members]),
        }
    )
    write_json(run.bundle, facts.model_dump(mode="json"))
    return read_bundle(run.bundle)


def _fitted(oof: Predictions, kind: Kind) -> dict:
    """The facts that are learnt from the out-of-fold table.

    Thresholds come from the very table that the report shows, each fold calibrated by the others,
    so that they are the report's own; the calibration itself, and the prior of what it gives, are
    fitted on all of it.
    """
    scaling = fit_scaling(oof, kind)
    answers = implied_prior(scaling.apply(oof.probabilities), oof.y)
    images = np.bincount(oof.y, minlength=len(oof.labels)) / len(oof)
    calibrated = nested_calibration(oof, kind)
    point = malignant_operating_point(calibrated)
    on_oof = {"fitted_on": "oof"}
    return {
        "calibration": scaling.to_dict() | on_oof,
        "prior": {"images": images.tolist(), "answers": answers.tolist()} | on_oof,
        "malignant_threshold": point and {"rule": "youden", "value": point.threshold} | on_oof,
        "operating_points": [point.to_dict() | on_oof for point in choose_points(calibrated)],
        "conformal": fit_conformal(calibrated).to_dict(),
    }


def read_bundle(path: str | Path) -> Bundle:
    """The bundle at `path`, a run's folder or its `ensemble.json`, checked.

    Raises:
        UserError: absent, damaged, of a newer format, of another decoder, a member that lies
            outside of the folder, is missing, or is not the one that was trained.
    """
    path = Path(path)
    file = RunDir(path).bundle if path.is_dir() else path
    try:
        content = read_bounded(file, JSON_BYTES)
        values = parse_json(content)
    except OSError as error:
        raise UserError(
            f"Expected a bundle, the folder of a finished run or its ensemble.json. Received: "
            f"{file} ({error.strerror}). {_finish(RunDir(file.parent))}"
        ) from None
    except ValueError as error:
        raise UserError(f"The bundle {file} is not valid JSON: {error}") from None
    facts = _validated(values, file)
    bundle = Bundle(file.parent, facts, hashlib.sha256(content).hexdigest())
    for member in facts.members:
        _check_member(bundle.directory, member)
    for beside in (facts.unlike.file if facts.unlike else "", RunDir(file.parent).engines.name):
        _check_inside(file.parent / beside, file.parent)
    return bundle


def _validated(values: Any, file: Path) -> BundleFacts:
    version = values.get("format") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise UserError(
            f"The bundle {file} has format {version}; this kderm ({kderm.__version__}) reads up to "
            f"{FORMAT}. Upgrade kderm to {values.get('kderm', 'a newer version')} or later."
        )
    try:
        facts = BundleFacts.model_validate(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise UserError(
            f"The bundle {file} is not valid:\n" + "\n".join(lines) + "\nWrite it again by running "
            "cv on its run, or take a fresh copy of the folder."
        ) from None
    if facts.image.decoder != DECODER_VERSION:
        raise UserError(
            f"The members of {file} were trained on images of decoder {facts.image.decoder}. This "
            f"kderm, {kderm.__version__}, has decoder {DECODER_VERSION}, which gives other pixels. "
            f"Install kderm {facts.kderm}, or train again."
        )
    return facts


def _check_member(directory: Path, member: MemberFacts) -> None:
    path = directory / member.path
    _check_inside(path, directory)
    if not path.is_file():
        raise UserError(
            f"A member is missing: {path}. Copy the whole folder, the folders in it included."
        )
    if file_sha256(path) != member.sha256:
        raise UserError(
            f"The member {path} is not the one that was trained (its SHA-256 differs from the "
            "bundle's), so it is refused. Copy it again from its origin."
        )


def _check_inside(path: Path, directory: Path) -> None:
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))
    if not inside:
        raise UserError(
            f"{path} leads out of the bundle's folder (a link?), so it is refused. Put a copy of "
            "the file there instead."
        )


def _config(run: RunDir) -> Config:
    if not run.config.is_file():
        raise UserError(
            f"Expected the folder of a run, with {run.config.name} in it. Received: {run.path}. "
            "Train one first: python run.py cv --folds 5"
        )
    return load_config(run.config)


def _finished_folds(run: RunDir, config: Config) -> dict[int, dict]:
    """`done.json` of every fold of the run, in fold order; refused if one is missing."""
    folds = range(config.folds.k)
    missing = [fold for fold in folds if not run.fold(fold).is_done]
    if missing:
        raise UserError(
            f"An ensemble of {run.path} needs all {len(folds)} folds. Not finished: "
            f"{', '.join(map(str, missing))}. Finish them with: {run.command('cv')}"
        )
    return {fold: json.loads(run.fold(fold).done.read_text(encoding="utf-8")) for fold in folds}


def _shared_metadata(run: RunDir, finished: dict[int, dict]) -> dict | None:
    """How the folds encoded metadata, the same in each; None for members of the image alone."""
    found = {fold: done.get("metadata") for fold, done in finished.items()}
    first = next(iter(found.values()))
    for fold, other in found.items():
        if other != first:
            raise UserError(
                f"Expected folds that encode metadata alike. Received in fold {fold} of {run.path} "
                "another encoding than in the first one: the data set's table has changed between "
                "them. " + _train_again(run, fold)
            )
    return first


def _finish(run: RunDir) -> str:
    if run.config.is_file():
        return f"Finish the run first: {run.command('cv')}"
    return "Train a run first: python run.py cv --folds 5"


def _train_again(run: RunDir, fold: int) -> str:
    place = run.fold(fold).path
    return f"Delete {place} and train that fold again: {run.command('cv')}"
