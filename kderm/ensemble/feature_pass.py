"""A member's forward pass that also gives what it saw: its pooled features beside its answer.

For the score of images unlike the training data (`kderm.ensemble.unlike`): features and
probabilities come from one pass, so the score costs next to nothing.
"""

import keras
import numpy as np

from kderm.errors import UserError
from kderm.models.forward import Forward, warped
from kderm.models.native.swap import use_native_graph

# See `kderm.models.classifier`: the features of the image before metadata join them.
POOL, LOGITS = "pool", "logits"


def pooled_features(classifier: keras.Model) -> keras.KerasTensor:
    """The symbolic pooled features (n, c): the output of `pool`, else the input of `logits`.

    Raises:
        UserError: the model has no layer of either name that gives one row an image.
    """
    by_name = {layer.name: layer for layer in classifier.layers}
    if POOL in by_name:
        found = by_name[POOL].output
    elif LOGITS in by_name:
        found = by_name[LOGITS].input
    else:
        found = None
    if found is None or len(found.shape) != 2:
        raise UserError(
            f"Expected a member with a layer {POOL!r} or {LOGITS!r}, whose features tell images "
            f"unlike the training data. Received layers: ..., {', '.join(list(by_name)[-6:])}."
        )
    return found


class FeatureForward(Forward):
    """A `Forward` whose rows hold the pooled features (c,) behind the probabilities (k,).

    Attributes:
        width: c, the number of features.
    """

    def __init__(
        self,
        classifier: keras.Model,
        frame: tuple[int, int],
        batch_size: int,
        *,
        fused: bool = True,
    ) -> None:
        """As `Forward`."""
        super().__init__(classifier, frame, batch_size, fused=fused)
        both = keras.Model(classifier.inputs, [classifier.output, pooled_features(classifier)])
        if fused:
            use_native_graph(both)
        model = warped(both, frame)
        logits, features = model.outputs
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
        joined = keras.layers.Concatenate(dtype="float32", name="answer_and_features")(
            [probabilities, features]
        )
        self.model = keras.Model(model.input, joined, name="forward_with_features")
        self.width = int(features.shape[-1])
        self.classes += self.width  # the columns that a call returns

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A call's (n, v, k + c) as probabilities (n, v, k) and features (n, v, c)."""
        return rows[..., : -self.width], rows[..., -self.width :]
