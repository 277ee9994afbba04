import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.config.reading import load_config
from kderm.data.images import ImageSpec
from kderm.errors import UserError
from kderm.explain import figure
from kderm.explain.activation_maps import class_activation_maps
from kderm.explain.figure import enlarge, grad_cam_figure, plain_view, spotlight
from kderm.labels import HAM10000
from kderm.models.classifier import load_classifier


def ink(path):
    """Share of the picture that is not white."""
    return (np.asarray(Image.open(path).convert("RGB")) < 250).any(axis=-1).mean()


def test_one_image_a_class_is_drawn_and_listed(run, tmp_path):
    path = tmp_path / "figures" / "grad_cam.png"
    shown = grad_cam_figure(run, path)
    assert shown["class"].tolist() == list(HAM10000.codes)
    listed = pd.read_csv(path.with_suffix(".csv"))
    assert listed["image_id"].tolist() == shown["image_id"].tolist()
    assert listed["probability"].to_numpy() == pytest.approx(shown["probability"].to_numpy())
    assert sorted(path.parent.iterdir()) == [path.with_suffix(".csv"), path]
    assert ink(path) > 0.5


def test_each_map_is_that_of_the_member_that_held_the_image_out(run, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        figure,
        "_draw",
        lambda path, examples, labels, pictures, maps, headline: drawn.update(maps=maps),
    )
    shown = grad_cam_figure(run, tmp_path / "x.png")
    spec = ImageSpec(*load_config(run.config).image.stored_shape)
    assert set(shown["fold"]) == {0, 1, 2}
    for example, evidence in zip(shown.to_dict("records"), drawn["maps"], strict=True):
        frame = figure.read_frames(
            run, figure.read_manifest(run.manifest, HAM10000), [example["image_id"]], spec
        )
        expected = class_activation_maps(
            load_classifier(run.fold(example["fold"]).model),
            plain_view(frame, 32),
            np.array([HAM10000.index(example["class"])]),
        )
        assert evidence == pytest.approx(expected[0], abs=1e-5)


def test_a_layer_can_be_named(run, tmp_path):
    grad_cam_figure(run, tmp_path / "deep.png")
    grad_cam_figure(run, tmp_path / "early.png", layer="stem_relu")
    assert (tmp_path / "deep.png").read_bytes() != (tmp_path / "early.png").read_bytes()


def test_members_that_see_metadata_are_given_those_of_the_manifest(run_with_metadata, tmp_path):
    grad_cam_figure(run_with_metadata, tmp_path / "cam.png")
    assert ink(tmp_path / "cam.png") > 0.5


def test_a_missing_member_is_named_and_nothing_is_written(run, tmp_path):
    run.fold(1).model.unlink()
    with pytest.raises(UserError, match=r"fold_1/model\.keras"):
        grad_cam_figure(run, tmp_path / "new" / "cam.png")
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_not_finished_is_refused(run, tmp_path):
    run.oof.unlink()
    with pytest.raises(UserError, match=r"oof\.csv"):
        grad_cam_figure(run, tmp_path / "cam.png")


def test_a_figure_of_one_class_holds_a_long_headline(run, tmp_path, monkeypatch):
    oof = pd.read_csv(run.oof)
    oof[oof["label"] == "akiec"].to_csv(run.oof, index=False)
    monkeypatch.setattr(figure, "_headline", lambda run, config: "MEANWHILE MORE WORDS " * 6)
    assert grad_cam_figure(run, tmp_path / "cam.png")["class"].tolist() == ["akiec"]
    pixels = np.asarray(Image.open(tmp_path / "cam.png").convert("L"))
    assert (pixels[:, -15:] > 250).all()  # nothing runs off the edge


@pytest.mark.parametrize("source", ["dataset", "sources"])
def test_a_figure_of_drawn_images_says_so(run, source):
    config = load_config(run.config)
    demo = (
        {"dataset": "demo"}
        if source == "dataset"
        else {"sources": [{"dataset": "demo", "root": "x"}]}
    )
    drawn = config.model_copy(update={"data": config.data.model_validate(demo)})
    assert figure._headline(run, drawn).startswith("SYNTHETIC DATA")
    assert "SYNTHETIC" not in figure._headline(run, config)


def test_a_map_is_enlarged_smoothly_and_stays_in_its_range():
    evidence = np.zeros((4, 4), np.float32)
    evidence[1, 2] = 1
    large = enlarge(evidence, 40)
    assert large.shape == (40, 40)
    assert (large.min(), large.max()) == (0, pytest.approx(1, abs=0.1))
    assert np.unravel_index(large.argmax(), large.shape) == pytest.approx((15, 25), abs=1)


def test_the_spotlight_leaves_the_evidence_and_greys_the_rest():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[...] = (200, 100, 0)
    lit = spotlight(picture, np.array([[1, 0.8], [0.3, 0]]))
    assert np.array_equal(lit[0], picture[0])
    dark = lit[1, 1]
    assert dark[0] == dark[1] == dark[2] < 100
    assert dark[0] < lit[1, 0, 0] < 200


def test_the_plain_view_is_the_centre_square():
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    frames[:, :, 8:40] = 200  # the square
    frames[:, 16, 24] = 90
    view = plain_view(frames, 32)
    assert view.dtype == np.float32
    assert view[0, 16, 16] == pytest.approx([90] * 3, abs=1)
    assert view[0, 0, 0] == pytest.approx([200] * 3, abs=0.01)
