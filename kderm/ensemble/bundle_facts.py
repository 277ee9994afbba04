"""What `ensemble.json` holds, as closed models: the schema of the bundle.

`kderm.ensemble.bundle` writes and reads it. Facts that came later have a default, so that bundles
of older versions still load. Opens no file.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kderm.evaluation.calibration.prevalence import SUM_TOLERANCE
from kderm.evaluation.decisions.operating_points import MALIGNANT
from kderm.models.averaging import How

FORMAT = 1
# More than any config allows: a bundle that asks for more would fill the memory of who reads it.
_PIXELS, _CLASSES, _MEMBERS = 4096, 10_000, 1_000


def path_inside(path: str) -> str:
    """`path` if it is relative and stays inside the bundle's folder; a ValueError otherwise."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in path or path in ("", "."):
        raise ValueError("must be a relative path that stays inside the bundle's folder")
    return path


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelFacts(_Closed):
    """A label space as `LabelSpace.to_dict` gives it."""

    name: str
    codes: Annotated[tuple[str, ...], Field(min_length=2, max_length=_CLASSES)]
    names: tuple[str, ...]
    malignant: tuple[str, ...]

    @model_validator(mode="after")
    def _fit(self) -> "LabelFacts":
        if len(self.names) != len(self.codes) or len(set(self.codes)) != len(self.codes):
            raise ValueError("must have different codes and a name for each")
        if strangers := set(self.malignant) - set(self.codes):
            raise ValueError(f"malignant codes that are none: {', '.join(sorted(strangers))}")
        return self


class ImageFacts(_Closed):
    """How a file becomes the network's input."""

    size: int = Field(ge=1, le=_PIXELS, description="Network input, pixels a side.")
    stored_height: int = Field(ge=1, le=_PIXELS, description="Height of the decoded frame.")
    stored_width: int = Field(ge=1, le=_PIXELS, description="Width of the decoded frame.")
    decoder: str = Field(description="Version of the decoder that training used.")
    preprocess: tuple[str, ...] = Field(
        (), description="Steps that every image goes through; older bundles have none."
    )


class MetadataColumnFacts(_Closed):
    """How one metadata column becomes numbers; see `kderm.data.metadata.MetadataColumn`."""

    name: Literal["age", "sex", "site"]
    values: tuple[str, ...]


class MetadataFacts(_Closed):
    """What the members see beside the image, as `MetadataSpec.to_dict` gives it."""

    columns: Annotated[tuple[MetadataColumnFacts, ...], Field(min_length=1)]


class MemberFacts(_Closed):
    """One trained member."""

    fold: int | None = Field(ge=0, description="The fold that it did not see; None: it saw all.")
    path: str = Field(description="Its file, relative to the bundle, inside the bundle's folder.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scores: dict[str, float] = Field(
        description="Of its held-out images; has macro_auc, and is empty if there are none."
    )

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        return path_inside(path)

    @model_validator(mode="after")
    def _has_auc(self) -> "MemberFacts":
        if self.fold is not None and "macro_auc" not in self.scores:
            raise ValueError("scores must hold macro_auc")
        return self


class CalibrationFacts(_Closed):
    """How the ensemble's answer becomes calibrated; see `calibration.scaling.Scaling`.

    It was fitted on single members' answers, the only held-out ones there are. The average of
    members is a little less extreme than each of them, so what it gives errs towards caution.
    """

    kind: Literal["temperature", "vector"]
    sharpness: Annotated[tuple[Annotated[float, Field(gt=0, lt=1e6)], ...], Field(min_length=2)]
    shift: tuple[Annotated[float, Field(gt=-1e6, lt=1e6)], ...]
    fitted_on: Literal["oof"]


class PriorFacts(_Closed):
    """Shares of the classes, in label-space order: where a correction to a prevalence starts.

    `images` are those of the out-of-fold table. The calibrated answers may stand for others: class
    weights and samplers make a network expect rare classes more often, and a temperature leaves it
    so. `answers` are those, found by `calibration.prevalence.implied_prior` on the same table, from
    answers that were calibrated as the ensemble's are; after vector scaling both are alike.
    """

    images: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    answers: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    fitted_on: Literal["oof"]

    @model_validator(mode="after")
    def _add_up(self) -> "PriorFacts":
        for shares in (self.images, self.answers):
            if abs(sum(shares) - 1) > SUM_TOLERANCE:
                raise ValueError("shares must add up to 1")
        if [share > 0 for share in self.images] != [share > 0 for share in self.answers]:
            raise ValueError("images and answers must be of the same classes")
        return self


class ThresholdFacts(_Closed):
    """From which malignant probability, calibrated if the bundle is, an image is flagged."""

    rule: Literal["youden"]
    value: float = Field(ge=0, le=1)
    fitted_on: Literal["oof"]


class EstimateFacts(_Closed):
    """A number on the out-of-fold table with its 95 % interval; ends None where there is none."""

    value: float = Field(ge=0, le=1)
    low: float | None
    high: float | None


class OperatingPointFacts(_Closed):
    """A frozen threshold; see `decisions.points.FrozenPoint`."""

    name: str = Field(pattern=r"^\S+$")
    target: str = Field(description="A class code, or malignant for all malignant classes.")
    rule: str
    value: float = Field(ge=0, le=1, description="On the calibrated scale; flagged from here on.")
    sensitivity: EstimateFacts
    specificity: EstimateFacts
    fitted_on: Literal["oof"]


class ConformalClassFacts(_Closed):
    """One class's threshold; None together with no image: in no set, with some: in every set."""

    threshold: float | None
    images: int = Field(ge=0)


class ConformalFacts(_Closed):
    """Thresholds of sets of classes; see `uncertainty.conformal.ConformalSets`."""

    kind: Literal["conformal"]
    method: Literal["lac", "aps"]
    coverage: float = Field(gt=0, lt=1)
    classes: dict[str, ConformalClassFacts]


class UnlikeFacts(_Closed):
    """The score of images unlike those of training, in a file beside the bundle."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    threshold: float = Field(allow_inf_nan=False)

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        return path_inside(file)


class BundleFacts(_Closed):
    """The content of `ensemble.json`."""

    format: Literal[1]
    kderm: str = Field(description="Version that wrote the bundle.")
    run: str
    synthetic: bool = Field(description="Whether it learnt from images drawn by a program.")
    labels: LabelFacts
    image: ImageFacts
    metadata: MetadataFacts | None = Field(
        None, description="What the members see beside the image; None for the image alone."
    )
    views: str = Field(description="Test-time views of the out-of-fold table, and the default.")
    combine: How
    precision: Literal["float32", "bfloat16", "int8"] = Field(
        "float32", description="Of predictions; the out-of-fold table is in float32."
    )
    early_exit: float = Field(
        0.0, ge=0, lt=0.5, description="Of predictions; see `kderm.ensemble.early_exit`."
    )
    members: Annotated[tuple[MemberFacts, ...], Field(min_length=1, max_length=_MEMBERS)]
    malignant_threshold: ThresholdFacts | None = Field(
        description="None where the labels have no malignant class or the data only one side."
    )
    calibration: CalibrationFacts | None = Field(
        None, description="Applied to the answer before anything is told; older bundles have none."
    )
    prior: PriorFacts | None = Field(
        None, description="Where a correction to a prevalence starts; older bundles have none."
    )
    operating_points: tuple[OperatingPointFacts, ...] = Field(
        (), description="Thresholds frozen for any later image; older bundles have none."
    )
    conformal: ConformalFacts | None = Field(
        None, description="Sets of classes with a stated coverage; older bundles have none."
    )
    unlike: UnlikeFacts | None = Field(None, description="None until it was fitted for the run.")
    smaller: str | None = Field(
        None, description="What was made of the run's members; None for the run's own bundle."
    )

    @field_validator("members")
    @classmethod
    def _differ(cls, members: tuple[MemberFacts, ...]) -> tuple[MemberFacts, ...]:
        folds = {member.fold for member in members}
        if len(folds) < len(members):
            raise ValueError("must have different folds")
        if None in folds and len(members) > 1:
            raise ValueError("must have held out a fold each, or be one")
        return members

    @model_validator(mode="after")
    def _speak_of_the_classes(self) -> "BundleFacts":
        codes = self.labels.codes
        scaling = self.calibration
        if scaling and not len(scaling.sharpness) == len(scaling.shift) == len(codes):
            raise ValueError(f"calibration must have {len(codes)} sharpness and shift values")
        if self.prior and len(self.prior.images) != len(codes):
            raise ValueError(f"prior must have {len(codes)} shares")
        known = {*codes, *([MALIGNANT] if self.labels.malignant else [])}
        strangers = {point.target for point in self.operating_points} - known
        if strangers:
            raise ValueError(f"operating_points speak of {', '.join(sorted(strangers))}")
        if self.conformal and tuple(self.conformal.classes) != codes:
            raise ValueError("conformal must name the classes in their order")
        return self
