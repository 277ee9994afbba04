"""Maps under one backend, in a process of its own: a process has but one.

`python maps_on_a_backend.py INPUTS.npz MAPS.npz MEMBER.keras...` takes "pixels", "classes" and
"metadata" and "frames", and writes for each member the maps by default and those of its layer
"branch_bn", and the evidence for two classes averaged over the eight symmetries.
"""

import sys

import numpy as np

from kderm.data.views import view_transforms
from kderm.explain.activation_maps import Evidence, class_activation_maps
from kderm.explain.view_maps import frame_maps
from kderm.models.classifier import load_classifier, metadata_width


def maps_of(given, members):
    """{MEMBER NUMBER/LAYER or MEMBER NUMBER/views: maps}."""
    found = {}
    for number, path in enumerate(members):
        member = load_classifier(path)
        known = given["metadata"] if metadata_width(member) else None
        for layer in (None, "branch_bn"):
            found[f"{number}/{layer}"] = class_activation_maps(
                member, given["pixels"], given["classes"], layer=layer, metadata=known, batch_size=3
            )
        frames, weights = (
            given["frames"],
            np.tile(np.eye(7)[None, 2:4], (len(given["frames"]), 1, 1)),
        )
        views = view_transforms("d4", frames.shape[1:3])
        evidence = Evidence(member, batch_size=2)
        averaged = frame_maps([evidence], frames, weights, views, metadata=known)
        found[f"{number}/views"] = averaged.maps / np.abs(averaged.maps).max()
    return found


if __name__ == "__main__":
    np.savez(sys.argv[2], **maps_of(np.load(sys.argv[1]), sys.argv[3:]))
