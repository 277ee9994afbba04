"""What an export left on disk: files, digests, and how far its answers lie from the members' own.

`runs/<run>/engines/<engine>_<precision>/` holds an ONNX file a member and `engine.json`, written
last. An export of other members, or whose files have changed, is none. Knows no Keras.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from kderm.atomic import write_json
from kderm.ensemble.bounded import JSON_BYTES, read_bounded
from kderm.ensemble.bundle import Bundle
from kderm.run_dir import RunDir
from kderm.storage.places import file_sha256

RECORD = "engine.json"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parity(_Closed):
    """How far the answers lie from those of Keras in float32, over images, members and classes."""

    images: int = Field(description="Shown to every member in the plain view.")
    real: bool = Field(description="Images of the run; else patterns drawn for this.")
    largest: float = Field(description="Largest difference of a probability.")
    mean: float = Field(description="Mean absolute difference.")
    same_class: float = Field(description="Share of a member's answers whose class is the same.")

    def __str__(self) -> str:
        shown = "images of the run" if self.real else "drawn patterns"
        return (
            f"on {self.images} {shown} its probabilities differ from Keras' in float32 by at most "
            f"{self.largest:.1e} (mean {self.mean:.1e}); {self.same_class:.1%} of the members' "
            "answers name the same class"
        )


class ExportedMember(_Closed):
    """One member's file."""

    member_sha256: str
    file: str = Field(pattern=r"^[\w.]+$")
    sha256: str


class Record(_Closed):
    """The content of `engine.json`."""

    engine: str
    precision: str
    kderm: str
    members: tuple[ExportedMember, ...]
    features: bool = Field(description="Whether the members give their pooled features too.")
    parity: Parity


@dataclass(frozen=True)
class Export:
    """An export of a bundle's members that is whole and theirs."""

    directory: Path
    record: Record

    @property
    def files(self) -> list[Path]:
        """A file a member, in the bundle's order."""
        return [self.directory / member.file for member in self.record.members]


def export_directory(bundle: Bundle, engine: str, precision: str) -> Path:
    """Where the export belongs."""
    return RunDir(bundle.directory).engines / f"{engine}_{precision}"


def find_export(bundle: Bundle, engine: str, precision: str) -> Export | None:
    """The export of the bundle's members; None if there is none, or of others, or a damaged one."""
    directory = export_directory(bundle, engine, precision)
    try:
        record = Record.model_validate_json(read_bounded(directory / RECORD, JSON_BYTES))
    except (OSError, ValueError):  # pydantic's own are ValueErrors
        return None
    export = Export(directory, record)
    of_bundle = [member.sha256 for member in bundle.facts.members]
    if [member.member_sha256 for member in record.members] != of_bundle:
        return None
    if not record.features and bundle.facts.unlike is not None:
        return None  # the score of unlike images came later
    inside = os.path.realpath(bundle.directory)
    for file, member in zip(export.files, record.members, strict=True):
        if (
            not Path(os.path.realpath(file)).is_relative_to(inside)
            or not file.is_file()
            or file_sha256(file) != member.sha256
        ):
            return None
    return export


def write_record(directory: Path, record: Record) -> Export:
    """Write `engine.json`, the last file of an export."""
    write_json(directory / RECORD, record.model_dump(mode="json"))
    return Export(directory, record)
