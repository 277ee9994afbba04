"""Where in one picture an ensemble finds what speaks for an answer.

Made by `kderm.api.loaded.LoadedEnsemble.explain`, from the maps of `kderm.explain`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kderm.data.images import ImageSource, ImageSpec, UnreadableImage, read_image
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import Bundle
from kderm.errors import UserError
from kderm.explain.sheet import overlay, resized

if TYPE_CHECKING:
    from kderm.explain.activation_maps import Evidence
    from kderm.explain.explained import Explained


@dataclass(frozen=True, eq=False)
class Explanation:
    """One picture, and what in it speaks for one class.

    Attributes:
        frame: uint8 (H, W, 3), the whole frame, at a size for the eye.
        heat: float32 (H, W), in [0, 1], the evidence for the class, scaled to its own maximum; all
            zero where nothing speaks for it.
        seen: bool (H, W), where the network looked.
        target: the class's code, or "malignant".
        name: the same in full.
        probability: of it.
        flags: why to look twice: "most evidence outside the lesion" and the like.
    """

    frame: np.ndarray
    heat: np.ndarray
    seen: np.ndarray
    target: str
    name: str
    probability: float
    flags: tuple[str, ...]

    def overlay(self, alpha: float = 1.0) -> np.ndarray:
        """The picture with all that is no evidence darkened, uint8 (H, W, 3).

        Args:
            alpha: from 0, the picture itself, to 1: dark grey where there is no evidence, a white
                line at half of the maximum, pale where the network did not look.
        """
        if not 0 <= alpha <= 1:
            raise UserError(f"Expected an alpha from 0 to 1. Received: {alpha}.")
        drawn = overlay(self.frame, self.heat, self.seen)
        return np.rint((1 - alpha) * self.frame + alpha * drawn).astype(np.uint8)


def load_evidence(bundle: Bundle) -> "list[Evidence]":
    """The members, ready to give maps. Needs Keras."""
    from kderm.explain.of_images import Ensemble

    return Ensemble(bundle.member_paths, bundle.labels, bundle.spec, bundle.facts.views).load()


def explain_one(
    bundle: Bundle,
    members: "Sequence[Evidence]",
    image: ImageSource,
    answer: pd.Series,
    views: str,
    *,
    target: str | None,
    metadata: np.ndarray | None,
    side: int,
) -> Explanation:
    """Explain one image.

    Args:
        bundle: the ensemble.
        members: of `load_evidence`.
        image: what `read_image` takes.
        answer: its row of predictions.csv.
        views: test-time views that maps are averaged over.
        target: a class, or "malignant"; None for the predicted class.
        metadata: float32 (1, d), for members that take them.
        side: shorter side of the picture, pixels; never below the frame's own.

    Raises:
        UserError: an image that cannot be read, or no such class.
    """
    from kderm.explain.explained import explain_frames

    spec = bundle.spec
    scale = max(1.0, side / min(spec.height, spec.width))
    large = ImageSpec(round(spec.height * scale), round(spec.width * scale), spec.preprocess)
    try:
        frame, picture = read_image(image, spec), read_image(image, large)
    except UnreadableImage as error:
        raise UserError(
            f"Expected an image that can be read. Received: {answer['path'] or 'one'} that cannot: "
            f"{error.reason}."
        ) from None
    explained = explain_frames(
        members,
        frame[None],
        answer.to_frame().T,
        bundle.labels,
        view_transforms(views, bundle.frame),
        metadata=metadata,
        target=answer["predicted"] if target is None else target,
    )
    return _explanation(picture, explained[0])


def _explanation(picture: np.ndarray, explained: "Explained") -> Explanation:
    shape, question = picture.shape[:2], explained.questions[0]
    return Explanation(
        frame=picture,
        heat=resized(explained.maps[0], shape).astype(np.float32),
        seen=resized(explained.seen, shape) >= 0.5,
        target=question.code,
        name=question.name,
        probability=question.probability,
        flags=tuple(filter(None, explained.flags.split("; "))),
    )
