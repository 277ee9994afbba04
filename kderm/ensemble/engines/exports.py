"""Write a bundle's members for another engine, and prove that they answer alike.

Every export begins with the members in ONNX in float32 (`onnx_float32/`), written by Keras on
torch; the others copy those files or quantise them on images that the member held out.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

import kderm
from kderm.atomic import atomic_path, locked
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.engines.choose import check_engine, engine_of, import_engine
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.engines.keras_engines import keras_engine
from kderm.ensemble.engines.looks import resample
from kderm.ensemble.engines.member_models import answering, load_members
from kderm.ensemble.engines.onnx_file import check_can_export, quantise, write_onnx
from kderm.ensemble.engines.record import (
    RECORD,
    Export,
    ExportedMember,
    Parity,
    Record,
    export_directory,
    find_export,
    write_record,
)
from kderm.ensemble.held_out import HeldOut, RunFrames, own_images, read_oof
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.storage.places import file_sha256

# Held-out images of each member that its int8 ranges are taken from.
CALIBRATION_IMAGES = 256
# Images that the answers are compared on.
COMPARED_IMAGES = 32
# Differences in float32 are rounding; more than this is another network.
LARGEST_ROUNDING = 1e-3
_TOGETHER = 32


def export(bundle: Bundle, engine: str, precision: str = "float32") -> Export:
    """Export the members, replacing an earlier export, and compare the answers with Keras'.

    Args:
        bundle: the ensemble.
        engine: "onnx" or "openvino".
        precision: one that the engine computes in.

    Raises:
        UserError: no such engine or precision, a missing package, another backend than torch,
            images of the run that are gone (int8 alone needs them), or answers that differ.
    """
    check_engine(engine, precision)
    if engine == "keras":
        raise UserError(
            "The members are Keras models already, so there is nothing to export. Expected an "
            "engine onnx or openvino. Received: keras."
        )
    import_engine(engine)
    check_can_export()
    directory = export_directory(bundle, engine, precision)
    refusal = f"Another command is writing to {directory}. Wait for it."
    # On the CPU, whatever else there is: the files are of no device, and the reference for float32
    # is not what a GPU's shortened products make of it.
    with locked(directory, refusal), keras.device("cpu"):
        (directory / RECORD).unlink(missing_ok=True)  # it speaks of the files that go now
        files = _write_files(bundle, engine, precision, directory)
        found = _compared(bundle, engine, precision, directory, files)
    return found


def _write_files(bundle: Bundle, engine: str, precision: str, directory: Path) -> list[Path]:
    folds = [member.fold for member in bundle.facts.members]
    files = [directory / ("soup.onnx" if one is None else f"fold_{one}.onnx") for one in folds]
    if (engine, precision) == ("onnx", "float32"):
        for classifier, file in zip(load_members(bundle), files, strict=True):
            write_onnx(answering(classifier, bundle.facts.unlike is not None), file)
        return files
    plain = find_export(bundle, "onnx", "float32") or export(bundle, "onnx", "float32")
    shown = _calibration(bundle) if precision == "int8" else [None] * len(files)
    for source, file, images in zip(plain.files, files, shown, strict=True):
        if images is None:
            with atomic_path(file) as temporary:
                shutil.copyfile(source, temporary)
        else:
            quantise(source, file, *images)
    return files


def _compared(
    bundle: Bundle, engine: str, precision: str, directory: Path, files: list[Path]
) -> Export:
    """Compare, and only then write the record that makes the files an export."""
    members = zip(bundle.facts.members, files, strict=True)
    record = Record(
        engine=engine,
        precision=precision,
        kderm=kderm.__version__,
        members=tuple(
            ExportedMember(member_sha256=member.sha256, file=file.name, sha256=file_sha256(file))
            for member, file in members
        ),
        features=bundle.facts.unlike is not None,
        parity=Parity(images=0, real=False, largest=0, mean=0, same_class=1),
    )
    unproven = Export(directory, record)
    own = engine_of(unproven, bundle, _TOGETHER, features=False)
    parity = compare_engines(bundle, own, keras_engine(bundle, _TOGETHER))
    if precision == "float32" and parity.largest > LARGEST_ROUNDING:
        raise UserError(
            f"The export for {engine} answers otherwise than the members do: {parity}. Expected "
            f"differences below {LARGEST_ROUNDING:g}, so it is not used. Predict with --engine "
            "keras, and report this model: it has a layer that the export does not carry over."
        )
    return write_record(directory, record.model_copy(update={"parity": parity}))


def compare_engines(bundle: Bundle, engine: Engine, reference: Engine) -> Parity:
    """How far the answers of two engines lie apart, image by image and member by member.

    Args:
        bundle: the ensemble of both.
        engine: one.
        reference: the other.
    """
    frames, metadata, real = _shown(bundle)
    plain = view_transforms("none", bundle.frame)[0]
    answers = [
        np.stack([word[0] for word in one.round(one.look(frames, plain), metadata)])
        for one in (engine, reference)
    ]  # (m, n, k) each
    apart = np.abs(answers[0] - answers[1])
    same = answers[0].argmax(axis=-1) == answers[1].argmax(axis=-1)
    return Parity(
        images=len(frames),
        real=real,
        largest=float(apart.max()),
        mean=float(apart.mean()),
        same_class=float(same.mean()),
    )


def _shown(bundle: Bundle) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Frames and metadata to compare on: the run's, or drawn where those are gone."""
    try:
        parts = own_images(bundle, read_oof(bundle))
        each = -(-COMPARED_IMAGES // len(parts))
        chosen = [_frames(bundle, part, each) for part in parts]
    except UserError:
        return *_drawn(bundle), False
    frames = np.concatenate([frames for frames, _ in chosen])
    known = [metadata for _, metadata in chosen]
    return frames, None if known[0] is None else np.concatenate(known), True


def _frames(bundle: Bundle, part: HeldOut, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames and metadata of about `count` images of a part, evenly from its table."""
    rows = np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).astype(int))
    table = part.table.iloc[rows]
    run = RunFrames(RunDir(bundle.directory), bundle)
    frames = np.concatenate(list(run.chunks(table["image_id"].tolist(), _TOGETHER)))
    return frames, None if bundle.metadata is None else bundle.metadata.encode(table)


def _drawn(bundle: Bundle) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames of coarse coloured patches, and metadata that nobody knows."""
    rng = np.random.default_rng(0)
    height, width = bundle.frame
    coarse = rng.integers(0, 256, (COMPARED_IMAGES, 4, 4, 3), dtype=np.uint8)
    fine = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
    spec = bundle.metadata
    metadata = None if spec is None else np.zeros((COMPARED_IMAGES, spec.width), np.float32)
    return fine[:, :height, :width], metadata


def _calibration(bundle: Bundle) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """For each member pixels (n, s, s, 3), and metadata, of images that it held out, if any."""
    plain = view_transforms("none", bundle.frame)[0]
    for part in own_images(bundle, read_oof(bundle)):
        try:
            frames, metadata = _frames(bundle, part, CALIBRATION_IMAGES)
        except UserError as error:
            if bundle.facts.smaller is None:
                raise
            raise UserError(
                f"The ranges of int8 are taken from images of the run {bundle.facts.run}. "
                f"Received: {bundle.directory}, from where they are not found ({error}). Export "
                "int8 where the run and its images are, before the folder is copied; its engines/ "
                "travel with it."
            ) from None
        yield resample(frames, plain, bundle.facts.image.size), metadata
