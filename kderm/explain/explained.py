"""One explained image: its answer, its maps in the frame's coordinates, and where they lie.

Between the maps (`kderm.explain.view_maps`) and the pictures (`kderm.explain.sheet`); the same for
a run's held-out images and for a folder. Knows no run and reads no file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kderm.explain.activation_maps import Evidence, scaled
from kderm.explain.artefacts import SHARES, energy_shares, enlarged_mask
from kderm.explain.lesion import find_places
from kderm.explain.targets import Question, chosen_question, questions
from kderm.explain.view_maps import frame_maps
from kderm.labels import LabelSpace


@dataclass(frozen=True, eq=False)
class Explained:
    """An image with its maps, two of them, or one that was asked for.

    Attributes:
        image_id: of the image.
        label: the code of its true class, "" where unknown.
        fold: of the member that held it out, -1 for an ensemble's answer.
        questions: what the maps are for; the first of two is the predicted class.
        maps: float32 (t, H', W'), in [0, 1] over the frame; all zero where nothing speaks for it.
        seen: bool (H', W'), where the network looked.
        shares: for each map where its evidence lies, see `kderm.explain.artefacts.energy_shares`.
    """

    image_id: str
    label: str
    fold: int
    questions: list[Question]
    maps: np.ndarray
    seen: np.ndarray
    shares: list[dict]

    @property
    def predicted(self) -> str:
        """Code of the predicted class."""
        return self.questions[0].code

    @property
    def flags(self) -> str:
        """What stands out in the first map; "" for nothing."""
        return self.shares[0]["flags"]


def explain_frames(
    members: Sequence[Evidence],
    frames: np.ndarray,
    about: pd.DataFrame,
    labels: LabelSpace,
    transforms: np.ndarray,
    *,
    metadata: np.ndarray | None = None,
    target: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explained]:
    """Explain n images.

    Args:
        members: whose maps are averaged; for a held-out image the one that held it out.
        frames: uint8 (n, H, W, 3).
        about: n rows in the same order: image_id, p_<code>..., and label and fold where known.
        labels: the label space.
        transforms: float32 (v, 2, 3), the views that are averaged, see `kderm.data.views`.
        metadata: float32 (n, d), for members that take them.
        target: a class, or "malignant", to draw the only map for; None for the two of `questions`.
        progress: called with (images done, n).
    """
    if not len(frames):
        return []
    probabilities = about[labels.columns].to_numpy(dtype=np.float64)
    if target is None:
        asked, weights = questions(probabilities, labels)
    else:
        asked, weights = chosen_question(probabilities, labels, target)
    found = frame_maps(members, frames, weights, transforms, metadata=metadata, progress=progress)
    seen_in_frame = enlarged_mask(found.seen, frames.shape[1:3])
    nothing = [""] * len(about)
    codes = about["label"].fillna("").tolist() if "label" in about else nothing
    folds = about["fold"].tolist() if "fold" in about else [-1] * len(about)
    explained = []
    for row, image_id in enumerate(about["image_id"].astype(str)):
        places = find_places(np.asarray(frames[row]), seen_in_frame, found.cell)
        shares = [energy_shares(one, places, found.seen) for one in found.maps[row]]
        maps = scaled(found.maps[row]).astype(np.float32)
        explained.append(
            Explained(
                *(image_id, str(codes[row]), int(folds[row]), asked[row]),
                *(maps, found.seen, shares),
            )
        )
    return explained


def as_table(images: Sequence[Explained]) -> pd.DataFrame:
    """Two rows an image: what each map is for, and where its evidence lies.

    Columns image_id, label, fold, predicted, role (of the map: predicted, watched or runner-up),
    class, probability, evidence (whether anything speaks for the class), outside_lesion,
    dark_corners, marks, border (shares of the evidence, empty where undefined), flags.
    """
    rows = [
        {
            "image_id": image.image_id,
            "label": image.label,
            "fold": image.fold,
            "predicted": image.predicted,
            "role": question.role,
            "class": question.code,
            "probability": round(question.probability, 6),
            "evidence": int(evidence.max() > 0),
            **{name: _rounded(shares[name]) for name in SHARES},
            "flags": shares["flags"],
        }
        for image in images
        for question, evidence, shares in zip(
            image.questions, image.maps, image.shares, strict=True
        )
    ]
    first = ["image_id", "label", "fold", "predicted", "role", "class", "probability", "evidence"]
    return pd.DataFrame(rows, columns=[*first, *SHARES, "flags"])


def flag_counts(images: Sequence[Explained]) -> dict[str, int]:
    """How many maps of the predicted class have each flag, most frequent first."""
    words = [word for image in images for word in image.flags.split("; ") if word]
    return pd.Series(words, dtype=object).value_counts().to_dict()


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
