"""Maps under one backend, in a process of its own: a process has but one.

`python maps_on_a_backend.py INPUTS.npz MAPS.npz MEMBER.keras...` takes "pixels", "classes" and
"metadata", and writes for each member the maps by default and those of its layer "branch_bn".
"""

import sys

import numpy as np

from kderm.explain.activation_maps import class_activation_maps
from kderm.models.classifier import load_classifier, metadata_width


def maps_of(given, members):
    """{MEMBER NUMBER/LAYER: maps}."""
    found = {}
    for number, path in enumerate(members):
        member = load_classifier(path)
        known = given["metadata"] if metadata_width(member) else None
        for layer in (None, "branch_bn"):
            found[f"{number}/{layer}"] = class_activation_maps(
                member, given["pixels"], given["classes"], layer=layer, metadata=known, batch_size=3
            )
    return found


if __name__ == "__main__":
    np.savez(sys.argv[2], **maps_of(np.load(sys.argv[1]), sys.argv[3:]))
