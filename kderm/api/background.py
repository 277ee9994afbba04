"""What a run's report tells beside its predictions: config, versions, digests, images and maps."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from kderm import console
from kderm.api.conclusion import read_json
from kderm.config.schema import Config
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.manifest import read_manifest
from kderm.errors import UserError
from kderm.evaluation.report.reproduction import Background
from kderm.labels import label_space
from kderm.run_dir import RunDir

# Pixels across a picture of the report.
THUMBNAIL = 240


def run_background(run: RunDir, config: Config, stills: dict[str, Path]) -> Background:
    """What the report tells of the run beside its predictions."""
    environment = read_json(run.environment)
    own = {key: environment[key] for key in ("kderm", "keras", "python") if key in environment}
    return Background(
        name=run.name,
        config=run.config.read_text(encoding="utf-8"),
        versions=own | environment.get("packages", {}),
        digests=digests(run, config),
        stills=stills,
        pictures=picture_reader(run, config),
        overlays=overlay_reader(run) if config.predict.grad_cam else None,
    )


def digests(run: RunDir, config: Config) -> dict[str, str]:
    """SHA-256 of what the numbers hang on: the tables as they are, the members as trained."""
    tables = {path.name: path for path in (run.oof, run.folds, run.manifest) if path.exists()}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in tables.items()}
    for fold in range(config.folds.k):
        found[f"fold_{fold}/model.keras"] = read_json(run.fold(fold).done)["model_sha256"]
    return found | {"the config": config.digest}


def picture_reader(run: RunDir, config: Config) -> Callable[[Sequence[str]], dict]:
    """Brings the run's images by id, as many as are still there."""

    def read(ids: Sequence[str]) -> dict:
        labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
        try:
            paths = read_manifest(run.manifest, labels).table.set_index("image_id")["path"]
        except UserError:
            return {}
        height, width = config.image.stored_shape
        spec = ImageSpec(round(THUMBNAIL * height / width), THUMBNAIL)
        found = {}
        for image_id in paths.index.intersection(list(ids)):
            # The report is made of tables: a picture that is gone costs itself alone.
            with contextlib.suppress(UnreadableImage):
                found[image_id] = read_image(paths[image_id], spec)
        return found

    return read


def overlay_reader(run: RunDir) -> Callable[[Sequence[str]], dict]:
    """Brings the run's images with what speaks for the predicted class, by id.

    Each map is by the member that held the image out; without members or images there is none.
    """

    def read(ids: Sequence[str]) -> dict:
        from kderm.explain.of_run import explain_held_out, open_for_maps
        from kderm.explain.sheet import overlay

        try:
            opened = open_for_maps(run)
            position = opened.oof.table.reset_index().set_index("image_id")["index"]
            cards = explain_held_out(opened, position.loc[list(ids)].tolist())
        except UserError as error:
            console.warn(f"no activation maps of the mistakes: {error}")
            return {}
        return {
            card.image.image_id: overlay(card.picture, card.image.maps[0], card.image.seen)
            for card in cards.values()
        }

    return read
