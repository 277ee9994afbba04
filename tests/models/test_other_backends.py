"""Members and losses under the backends other than that of this process."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.models.classifier import build_classifier
from kderm.models.native.swap import use_native_graph

SCRIPT = Path(__file__).with_name("on_a_backend.py")
OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})


@pytest.fixture(scope="module")
def saved(tmp_path_factory, draw_weights):
    """Images, a member saved while it ran natively where it can, and its logits here."""
    folder = tmp_path_factory.mktemp("saved")
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.save(folder / "images.npy", images)
    member = build_classifier("keras_cv/efficientnetv2_tiny", 32, 4, pooling="gem", weights="none")
    use_native_graph(draw_weights(member))
    member.save(folder / "member.keras")
    logits = keras.ops.convert_to_numpy(member(images, training=False))
    return folder / "images.npy", folder / "member.keras", logits


@pytest.fixture(scope="module", params=OTHERS)
def report(request, saved, ask):
    pytest.importorskip(request.param)
    images, member, _ = saved
    return request.param, ask(request.param, images, member)


def test_a_saved_member_gives_the_same_logits_under_each_backend(report, saved):
    backend, answers = report
    assert answers["backend"] == backend
    assert np.array(answers["logits"]) == pytest.approx(saved[2], abs=1e-4)
    assert not answers["keras_cv"]


def test_native_graphs_exist_on_torch_alone(report):
    backend, answers = report
    assert answers["fast"] == (backend == "torch")


def test_values_and_gradients_of_the_losses_are_those_of_this_backend(report):
    _, answers = report
    here = runpy.run_path(str(SCRIPT))
    for kind in ("losses", "losses_on_targets"):
        for case, expected in zip(answers[kind], here[kind](), strict=True):
            assert case.keys() == expected.keys()
            assert case.pop("name", None) == expected.pop("name", None)
            for name, value in expected.items():
                np.testing.assert_allclose(case[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
