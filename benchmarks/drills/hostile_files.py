"""Hostile bundles: changed files, paths that lead out, the bundle's own file, the unlike score."""

# ruff: noqa: D103 (the names say what is changed)

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drills.hostile import (
    ATTACKS,
    BOMB,
    Attack,
    Payload,
    attack,
    bomb,
    change,
    change_unlike,
    facts,
    member,
    npy,
    reseal,
    write_unlike,
)

# === A changed file is refused by its digest ===


@attack("digest")
def a_flipped_bit_in_a_member(folder: Path, canary: Path) -> None:
    content = bytearray(member(folder).read_bytes())
    content[len(content) // 2] ^= 1
    member(folder).write_bytes(content)


@attack("digest")
def one_member_in_place_of_another(folder: Path, canary: Path) -> None:
    first, second = (folder / one["path"] for one in facts(folder)["members"][:2])
    shutil.copyfile(second, first)


@attack("digest")
def another_score_of_unlike_images(folder: Path, canary: Path) -> None:
    with np.load(folder / "unlike.npz") as stored:
        arrays = dict(stored)
    arrays["threshold"] = arrays["threshold"] + 1
    np.savez(folder / "unlike.npz", **arrays)


@attack("digest")
def a_member_that_is_gone(folder: Path, canary: Path) -> None:
    member(folder).unlink()


# === Paths ===


def _path_of_member(path: str) -> Attack:
    def edit(folder: Path, canary: Path) -> None:
        change(folder, lambda values: values["members"][0].update(path=path))

    return edit


for _text in ("../x.keras", "/etc/passwd", "fold_0/../../x.keras", "C:\\x.keras", "..\\x", "."):
    ATTACKS[f"a member at {_text}"] = ("path", _path_of_member(_text))


@attack("path")
def a_member_that_links_outside(folder: Path, canary: Path) -> None:
    outside = folder.with_name("outside.keras")
    shutil.move(member(folder), outside)
    member(folder).symlink_to(outside)


@attack("path")
def a_member_that_links_to_itself(folder: Path, canary: Path) -> None:
    path = member(folder)
    path.unlink()
    path.symlink_to(path.name)


@attack("path")
def a_folder_of_a_member_that_links_outside(folder: Path, canary: Path) -> None:
    outside = folder.with_name("outside")
    shutil.move(member(folder).parent, outside)
    member(folder).parent.symlink_to(outside)


@attack("path")
def unlike_at_a_parent(folder: Path, canary: Path) -> None:
    change(folder, lambda values: values["unlike"].update(file="../unlike.npz"))


@attack("path")
def unlike_that_links_outside(folder: Path, canary: Path) -> None:
    outside = folder.with_name("outside.npz")
    shutil.move(folder / "unlike.npz", outside)
    (folder / "unlike.npz").symlink_to(outside)


@attack("path")
def unlike_that_never_ends(folder: Path, canary: Path) -> None:
    (folder / "unlike.npz").unlink()
    (folder / "unlike.npz").symlink_to("/dev/zero")


@attack("path")
def unlike_that_is_a_pipe(folder: Path, canary: Path) -> None:
    (folder / "unlike.npz").unlink()
    os.mkfifo(folder / "unlike.npz")


@attack("path")
def a_member_that_is_a_pipe(folder: Path, canary: Path) -> None:
    path = member(folder)
    path.unlink()
    os.mkfifo(path)


@attack("path")
def a_bundle_that_is_a_pipe(folder: Path, canary: Path) -> None:
    (folder / "ensemble.json").unlink()
    os.mkfifo(folder / "ensemble.json")


@attack("path")
def engines_that_link_outside(folder: Path, canary: Path) -> None:
    outside = folder.with_name("engines_outside")
    outside.mkdir()
    (folder / "engines").symlink_to(outside)


# === The bundle's own file ===


@attack("bundle")
def a_bundle_nested_without_end(folder: Path, canary: Path) -> None:
    (folder / "ensemble.json").write_text("[" * 200_000)


@attack("bundle")
def a_bundle_of_a_gigabyte(folder: Path, canary: Path) -> None:
    with open(folder / "ensemble.json", "ab") as handle:
        handle.truncate(2**30)


def _facts_changed(edit: Callable[[dict[str, Any]], Any]) -> Attack:
    return lambda folder, canary: change(folder, edit)


_EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "frames of a terabyte": lambda v: v["image"].update(stored_height=10**6, stored_width=10**6),
    "an input of a terabyte": lambda v: v["image"].update(size=10**6),
    "frames of less than nothing": lambda v: v["image"].update(stored_height=-5),
    "ten million classes": lambda v: v["labels"].update(codes=["x"] * 10**6),
    "classes without names": lambda v: v["labels"].update(names=[]),
    "a class twice": lambda v: v["labels"].update(codes=["nv"] * len(v["labels"]["codes"])),
    "an unknown malignant class": lambda v: v["labels"].update(malignant=["other"]),
    "no members": lambda v: v.update(members=[]),
    "members without number": lambda v: v.update(members=v["members"] * 10**4),
    "one member many times": lambda v: v.update(members=[v["members"][0]] * 3),
    "a threshold that is no number": lambda v: v["malignant_threshold"].update(value=float("nan")),
    "an unlike threshold without end": lambda v: v["unlike"].update(threshold=float("inf")),
    "a calibration of other classes": lambda v: v["calibration"].update(sharpness=[1.0, 1.0]),
    "a calibration that explodes": lambda v: v["calibration"].update(
        sharpness=[1e300] * len(v["labels"]["codes"])
    ),
    "an unknown key": lambda v: v.update(run_this="touch canary"),
    "unknown views": lambda v: v.update(views="__import__"),
    "unknown steps": lambda v: v["image"].update(preprocess=["eval"]),
    "another decoder": lambda v: v["image"].update(decoder="99"),
    "a later format": lambda v: v.update(format=99),
    "a list in place of the run": lambda v: v.update(run=["x"]),
    "metadata that members do not take": lambda v: v.update(
        metadata={"columns": [{"name": "age", "values": []}]}
    ),
}
ATTACKS |= {name: ("bundle", _facts_changed(edit)) for name, edit in _EDITS.items()}


# === The score of unlike images ===


@attack("code")
def a_pickle_in_unlike(folder: Path, canary: Path) -> None:
    change_unlike(
        folder, lambda arrays: arrays.update(mean_0=np.array([Payload(canary)], dtype=object))
    )


@attack("size")
def unlike_of_a_terabyte_by_its_header(folder: Path, canary: Path) -> None:
    with zipfile.ZipFile(folder / "unlike.npz") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    write_unlike(folder, parts | {"mean_0.npy": npy((2**38,))})


@attack("size")
def unlike_that_unfolds(folder: Path, canary: Path) -> None:
    bomb(folder / "unlike.npz", "more.npy", npy((BOMB // 4,)))
    reseal(folder)


@attack("model")
def unlike_without_a_member(folder: Path, canary: Path) -> None:
    change_unlike(folder, lambda arrays: arrays.pop("mean_1"))


@attack("model")
def unlike_of_other_features(folder: Path, canary: Path) -> None:
    change_unlike(
        folder,
        lambda arrays: arrays.update(
            mean_0=arrays["mean_0"][:-1], directions_0=arrays["directions_0"][:, :-1]
        ),
    )


@attack("model")
def unlike_of_texts(folder: Path, canary: Path) -> None:
    change_unlike(folder, lambda arrays: arrays.update(mean_0=np.array(["a", "b"])))
