"""A mistake is told by the names of the arguments that the caller wrote."""

import numpy as np
import pytest
from PIL import Image

import kderm
from kderm.api.arguments import renamed
from kderm.api.fit_input import WrongInput, as_wrong_input
from kderm.labels import LABEL_SPACES

SMALL = {"preset": "kderm/small_cnn", "weights": "none", "image_size": 32, "epochs": 1, "folds": 2}


def test_an_option_is_renamed_where_it_stands_alone():
    names = {"data.map": "map", "--run NAME": "run="}
    told = "data.map=x, data.map.nv=drop, my.data.map, data.mapped, data.map. (--run NAME)"
    expected = "map=x, data.map.nv=drop, my.data.map, data.mapped, map. (run=)"
    assert renamed(told, names) == expected
    for path in ("runs/data.map/x.png", "data.map/x.png", "/home/me/data.map", "map=data.map"):
        assert renamed(f"Received: {path}.", names) == f"Received: {path}."
    assert renamed("1 problem in the overrides: k", {}) == "1 problem in the arguments: k"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dataset": "ham10000"}, "so root must name its folder, for example root=path/to/images"),
        ({"dataset": "ham10000", "root": "nope"}, "Expected a folder at root=nope"),
        ({"dataset": "ham100"}, "Set dataset."),
        ({"dataset": "table", "root": ".", "table": "x.csv"}, "Expected a table at table=x.csv"),
        ({"labels": "custom"}, "labels is 'custom', so data.classes must list"),
        ({"settings": {"train.epoch": 3}}, "in the arguments:\n  train.epoch: there is no such"),
    ],
)
def test_load_dataset_names_its_arguments(workplace, given, words):
    with pytest.raises(kderm.UserError) as error:
        kderm.load_dataset(**given)
    assert words in str(error.value)


def test_a_config_file_keeps_its_own_names(workplace):
    (workplace / "mine.yaml").write_text("data: {dataset: ham10000}\n")
    with pytest.raises(kderm.UserError, match=r"so data\.root must name its folder"):
        kderm.load_dataset(config="mine.yaml")


def test_folds_and_runs_are_refused_by_their_arguments(workplace):
    data = kderm.load_dataset(settings={"data.demo_images": 70, "data.demo_size": 48})
    with pytest.raises(kderm.UserError, match=r"\n  k: Input should be"):
        kderm.make_folds(data, 1)
    with pytest.raises(kderm.UserError, match=r"\n  folds: Input should be"):
        kderm.cross_validate(data, 1, quiet=True)
    with pytest.raises(kderm.UserError, match=r"Choose another with run=\."):
        kderm.cross_validate(data, run="_hidden", quiet=True)
    for jobs in (0, "2", 1.5):
        told = rf"Expected jobs, folds at a time, from 1 on\. Received: {jobs!r}\."
        with pytest.raises(kderm.UserError, match=told):
            kderm.cross_validate(data, jobs=jobs, quiet=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image_size": 1}, r"\n  image_size: Input"),
        ({"weights": "nope.h5"}, r"weights=nope\.h5 is not there\. .*; set weights=PATH"),
        ({"folds": 13}, r"Choose a smaller folds,"),
        ({"n_jobs": -1}, r"Expected n_jobs, folds at a time, from 1 on\. Received: -1"),
    ],
)
def test_the_estimator_names_its_parameters(workplace, given, words):
    images = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=words) as error:
        kderm.SkinLesionClassifier(**SMALL | given).fit(images, ["a", "b"] * 6)
    assert "model." not in str(error.value)
    assert isinstance(error.value, kderm.UserError)


@pytest.mark.parametrize("settings", [None, {"data.drop_unreadable": True}])
@pytest.mark.parametrize("content", [b"no picture", None])
def test_the_estimator_tells_which_image_it_cannot_read(workplace, content, settings):
    paths = [workplace / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(path)
    paths[4].unlink() if content is None else paths[4].write_bytes(content)
    with pytest.raises(ValueError, match=r"number 4: .*4\.png") as error:
        kderm.SkinLesionClassifier(**SMALL, settings=settings).fit(paths, ["a", "b"] * 3)
    assert "data." not in str(error.value)


def test_the_estimator_leaves_rows_in_names_of_folders_alone(workplace):
    place = workplace / "plate row 7"
    place.mkdir()
    paths = [place / f"row 3: {number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(path)
    paths[4].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"\n  image number 4: ") as error:
        kderm.SkinLesionClassifier(**SMALL).fit(paths, ["a", "b"] * 3)
    assert str(paths[4]) in str(error.value)


def test_prediction_knows_no_rows():
    with pytest.raises(WrongInput, match=r"^row 7: gone$"), as_wrong_input():
        raise kderm.UserError("row 7: gone")


def test_evaluate_asks_for_the_label_space_of_classes_of_ones_own(workplace):
    (workplace / "a.csv").write_text("image_id,label,p_a,p_b\n1,a,0.5,0.5\n")
    with pytest.raises(kderm.UserError, match=r"labels=kderm\.LabelSpace"):
        kderm.evaluate("a.csv", labels="custom")


def test_evaluate_does_not_ask_for_the_columns_that_it_was_given(workplace):
    codes = LABEL_SPACES["ham10000"].codes
    header = ",".join(["image_id", "label", *(f"p_{code}" for code in codes)])
    (workplace / "a.csv").write_text(f"{header}\n")
    with pytest.raises(
        kderm.UserError, match=r"the name 'custom' alone.* leave labels out"
    ) as told:
        kderm.evaluate("a.csv", labels="custom")
    assert "labels=kderm.LabelSpace(" in str(told.value)
    assert "p_mel" not in str(told.value)


def test_an_ensemble_names_what_it_was_asked_with(finished):
    ensemble = kderm.load_run(finished.path).ensemble()
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(kderm.UserError, match=r"Expected in prevalence, as text, the shares"):
        ensemble.predict(image, prevalence={"mel": 3})
    with pytest.raises(kderm.UserError, match=r"Expected metadata as a table or a mapping"):
        ensemble.predict(image, metadata=3)
    for threads in (0, -1, "2"):
        told = rf"Expected threads, images decoded at a time, from 1 on\. Received: {threads!r}\."
        with pytest.raises(kderm.UserError, match=told):
            ensemble.answer(image, threads=threads)
    assert len(ensemble.answer(image, threads=1).table) == 1
