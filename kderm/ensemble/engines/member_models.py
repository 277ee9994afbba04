"""A bundle's members as Keras models that answer with probabilities: for running and exporting."""

from collections.abc import Iterator
from typing import Any

import keras

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.feature_pass import pooled_features
from kderm.errors import UserError
from kderm.models.classifier import load_classifier, metadata_width


def load_members(bundle: Bundle) -> Iterator[keras.Model]:
    """The members in float32, in the bundle's order, one at a time.

    Raises:
        UserError: a member whose inputs or classes are not those of the bundle.
    """
    for path in bundle.member_paths:
        classifier = load_classifier(path)
        spec, size = bundle.metadata, bundle.facts.image.size
        expected = (size, size, 3), spec.width if spec else 0, len(bundle.labels)
        image = tuple(classifier.inputs[0].shape[1:])
        received = image, metadata_width(classifier), classifier.output_shape[-1]
        if received != expected:
            told = "an input of {}, metadata of the width {} and {} classes"
            raise UserError(
                f"The member {path} does not fit its bundle. Expected {told.format(*expected)}. "
                f"Received: {told.format(*received)}. Copy the run's folder again from its origin."
            )
        yield classifier


def answering(classifier: keras.Model, features: bool) -> keras.Model:
    """The classifier with a softmax behind, and its pooled features beside if they are wanted.

    It gives float32 probabilities (n, k), then features (n, c); see `as_list`.
    """
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    outputs = [softmax(classifier.output)]
    if features:
        outputs.append(pooled_features(classifier))
    return keras.Model(classifier.inputs, outputs, name="answering")


def as_list(outputs: Any) -> list[Any]:
    """What a model gave, as a list: Keras gives the output of a model with one as it is."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
