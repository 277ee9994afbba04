"""A smaller bundle of a run: one network of averaged weights, or some of the members.

`shrink` writes it below the run, with all that `ensemble-predict` and `export` need beside it, so
that the folder can be copied alone.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

import kderm
from kderm.atomic import atomic_path, locked, write_json
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.bundle_facts import BundleFacts, MemberFacts
from kderm.ensemble.held_out import RunFrames, read_oof
from kderm.ensemble.soup import refresh_statistics, uniform_soup
from kderm.errors import UserError
from kderm.models.classifier import load_classifier
from kderm.models.forward import Forward
from kderm.models.keras_archive import make_reproducible
from kderm.models.keras_file import rebuild
from kderm.run_dir import RunDir
from kderm.storage.places import file_sha256

SOUP = "soup"
# Images of the run whose statistics the soup's batch normalisations take.
STATISTICS_IMAGES = 1024
# Images of the run on which the soup's answers are held against the members'.
COMPARED_IMAGES = 256


def averaged(run: RunDir, bundle: Bundle, batch_size: int) -> keras.Model:
    """The soup of all members, its statistics taken from an even choice of the run's images.

    Raises:
        UserError: members of different architecture, or images that are gone.
    """
    soup = uniform_soup(bundle.member_paths)
    shown = _own_images(run, bundle, STATISTICS_IMAGES, batch_size)
    refresh_statistics(soup, shown, bundle.frame, view_transforms("none", bundle.frame)[0])
    return soup


def same_class(run: RunDir, bundle: Bundle, soup: keras.Model, batch_size: int) -> float:
    """Share of the run's images of which the soup names the class that its members name together.

    Labels play no part, and all of them have trained on most of these images: it tells whether the
    averaged network still is one, not how good it is.
    """
    plain = view_transforms("none", bundle.frame)
    shown = list(_own_images(run, bundle, COMPARED_IMAGES, batch_size))

    def answers(classifier: keras.Model) -> np.ndarray:
        ask = Forward(classifier, bundle.frame, batch_size)
        found = [ask(frames, plain, metadata=metadata)[:, 0] for frames, metadata in shown]
        return np.concatenate(found)

    together = sum(answers(load_classifier(path)) for path in bundle.member_paths)
    own = answers(rebuild(soup))  # the soup itself is still to be saved, without a native graph
    return float((own.argmax(axis=1) == together.argmax(axis=1)).mean())


def _own_images(
    run: RunDir, bundle: Bundle, count: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames and metadata of about `count` images of the run, evenly from all."""
    table = read_oof(bundle).table
    table = table.iloc[:: max(1, len(table) // count)]
    spec, start = bundle.metadata, 0
    for frames in RunFrames(run, bundle).chunks(table["image_id"].tolist(), batch_size):
        rows = table.iloc[start : start + len(frames)]
        yield frames, None if spec is None else spec.encode(rows)
        start += len(frames)


def write_smaller(
    run: RunDir, bundle: Bundle, folds: Sequence[int] | None, batch_size: int
) -> tuple[Bundle, float | None]:
    """Write `runs/<run>/smaller/<name>/`, replacing an earlier one of the same name.

    Calibration, thresholds and sets stay those of the run: its members' answers to images that
    they held out are the only ones to fit them on. The score of unlike images speaks of all
    members' features and stays behind.

    Args:
        run: a finished run.
        bundle: its bundle.
        folds: the members to keep, by fold; None for the mean of all members' weights.
        batch_size: images a forward pass, for the soup's statistics.

    Returns:
        The smaller bundle; and for the soup what `same_class` says of it, else None.

    Raises:
        UserError: a fold that is not there or is named twice, all of them, members of different
            architecture, images that are gone.
    """
    kept = None if folds is None else _chosen(bundle, folds)
    name = SOUP if kept is None else "folds_" + "_".join(str(member.fold) for member in kept)
    place = RunDir(run.smaller / name)
    with locked(place.path, f"Another command is writing to {place.path}. Wait for it.", "shrink"):
        # Before anything goes: what cannot be averaged costs no earlier bundle.
        soup, alike = None, None
        if kept is None:
            soup = averaged(run, bundle, batch_size)
            alike = same_class(run, bundle, soup, batch_size)
        place.bundle.unlink(missing_ok=True)  # it speaks of the files that go now
        for mine, own in _companions(place, run):
            if own.is_file():
                _copy(own, mine)
        if soup is not None:
            members: tuple[MemberFacts, ...] = (_write_soup(soup, place),)
            count = len(bundle.facts.members)
            told = (
                f"one network of the averaged weights of {count} members (in {alike:.0%} of the "
                "run's images its class is that of all of them together)"
            )
        else:
            members = kept
            for member in kept:
                _copy(bundle.directory / member.path, place.path / member.path)
            some = ", ".join(str(member.fold) for member in kept)
            plural = "s" * (len(kept) > 1)
            told = f"the member{plural} of fold{plural} {some} alone"
        changes = {"members": members, "unlike": None, "smaller": told, "kderm": kderm.__version__}
        facts = BundleFacts.model_validate(bundle.facts.model_copy(update=changes).model_dump())
        write_json(place.bundle, facts.model_dump(mode="json"))
    return read_bundle(place.bundle), alike


def _chosen(bundle: Bundle, folds: Sequence[int]) -> tuple[MemberFacts, ...]:
    known = {member.fold: member for member in bundle.facts.members}
    if not folds or set(folds) - set(known) or len(set(folds)) < len(folds):
        raise UserError(
            f"Expected different folds of the run among {', '.join(map(str, known))}. Received: "
            f"{', '.join(map(str, folds)) or 'none'}."
        )
    if len(folds) == len(known):
        raise UserError(
            f"Expected fewer than all {len(known)} members. Received: every fold; that is the "
            "run's own bundle. Leave some out, or average their weights with --members soup."
        )
    return tuple(known[fold] for fold in sorted(folds))


def _write_soup(soup: keras.Model, place: RunDir) -> MemberFacts:
    path = place.path / SOUP / "model.keras"
    with atomic_path(path) as temporary:
        soup.save(temporary)
        make_reproducible(temporary)
    inside = path.relative_to(place.path).as_posix()
    return MemberFacts(fold=None, path=inside, sha256=file_sha256(path), scores={})


def _companions(place: RunDir, run: RunDir) -> list[tuple[Path, Path]]:
    """What tells which images the members were trained on, and where their frames are."""
    return [(place.oof, run.oof), (place.manifest, run.manifest), (place.store, run.store)]


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
