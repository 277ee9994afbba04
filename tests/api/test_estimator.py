"""The scikit-learn estimator: images in, labels out, at home in scikit-learn's tools."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict

import kderm
from kderm.api.fit_input import checked_targets
from kderm.config.schema import Config
from kderm.labels import label_space
from kderm.run_dir import RunDir

LABELS = ("mel", "nv")


def pictures(count, seed=0):
    """Images of two colours that a network can tell apart, their labels and lesions."""
    rng = np.random.default_rng(seed)
    y = np.array(LABELS)[np.arange(count) % 2]
    images = rng.integers(0, 80, (count, 32, 32, 3)).astype(np.uint8)
    images[y == "mel", ..., 0] += 150
    images[y == "nv", ..., 2] += 150
    return images, y, np.arange(count) // 4 + count * (np.arange(count) % 2)


def tiny(**changes):
    quick = {"train.frozen_epochs": 0, "train.learning_rate": 3e-3}
    values = {
        "folds": 2,
        "preset": "kderm/small_cnn",
        "weights": "none",
        "image_size": 32,
        "epochs": 2,
        "batch_size": 8,
        "views": "none",
        "settings": quick,
    }
    return kderm.SkinLesionClassifier(**values | changes)


@pytest.fixture(scope="module")
def data():
    return pictures(24)


@pytest.fixture(scope="module")
def fitted(data):
    return tiny(malignant=["mel"]).fit(*data)


def test_the_parameters_are_the_options_defaults():
    found, config = kderm.SkinLesionClassifier(), Config()
    assert (found.folds, found.random_state) == (config.folds.k, config.seed)
    assert (found.preset, found.weights) == (config.model.preset, config.model.weights)
    assert (found.image_size, found.views) == (config.image.size, config.predict.views)
    assert (found.epochs, found.batch_size) == (config.train.epochs, config.train.batch_size)


def test_a_fitted_ensemble_tells_the_colours_apart(fitted, data):
    images, y, _ = data
    assert fitted.classes_.tolist() == ["mel", "nv"]
    probabilities = fitted.predict_proba(images)
    assert probabilities.shape == (24, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert fitted.score(images, y) > 0.9
    fresh = pictures(6, seed=1)
    assert fitted.predict(fresh[0]).tolist() == fresh[1].tolist()


def test_the_out_of_fold_answers_are_in_the_order_of_the_images(fitted, data):
    _, y, groups = data
    table = fitted.oof_.sort_values("image_id")  # numbered in the order of the images
    assert table["label"].tolist() == y.tolist()
    np.testing.assert_array_equal(table[["p_mel", "p_nv"]], fitted.oof_proba_)
    assert (fitted.oof_proba_[y == "mel", 0].mean() - fitted.oof_proba_[y == "nv", 0].mean()) > 0
    assert fitted.oof_.groupby("group_id")["fold"].nunique().max() == 1
    assert fitted.oof_["group_id"].nunique() == len(set(groups))
    space = fitted.ensemble().labels
    assert kderm.evaluate(fitted.oof_, space, resamples=5)["n_groups"] == len(set(groups))


def test_it_is_the_ensemble_that_cross_validate_trains(data, tmp_path):
    images, y, groups = data
    table = pd.DataFrame({"image_id": [f"i{n:02d}" for n in range(24)], "label": y})
    for name, image in zip(table["image_id"], images, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    table["lesion_id"] = [f"group:{group}" for group in groups]
    table.to_csv(tmp_path / "table.csv", index=False)
    space = {"data.labels": "custom", "data.classes": LABELS, "data.malignant": ["mel"]}
    estimator = tiny(malignant=["mel"])
    settings = {**estimator._config(42), **estimator.settings, **space}
    source = kderm.load_dataset("table", tmp_path, table="table.csv", settings=settings)
    run = kderm.cross_validate(
        source, kderm.make_folds(source, 2), run=tmp_path / "run", report=False, quiet=True
    )
    # Folds are dealt by the names of lesions, so these are the same ones.
    np.testing.assert_allclose(
        run.ensemble().predict_proba(images), estimator.fit(*data).predict_proba(images), atol=1e-4
    )


def test_files_are_as_good_as_arrays(fitted, data, tmp_path):
    images, y, groups = data
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    expected = fitted.predict_proba(images)
    forms = (paths, [str(path) for path in paths], np.array([str(path) for path in paths]))
    for form in (*forms, pd.Series(forms[1]), list(images)):
        np.testing.assert_array_equal(fitted.predict_proba(form), expected)
    other = tiny(malignant=["mel"], run=str(tmp_path / "of_files")).fit(forms[1], y, groups)
    assert other.score(paths, y) > 0.9
    assert set(other.oof_["image_id"]) == {path.stem for path in paths}


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["a b", "ä/ö"], ["X", "x"]])
def test_labels_of_any_kind_come_back_as_they_were(data, labels):
    images, y, groups = data
    named = np.array([labels[LABELS.index(label)] for label in y])
    found = tiny(epochs=1).fit(images, named, groups)
    assert found.classes_.tolist() == sorted(labels)
    assert found.predict(images).dtype == named.dtype
    assert set(found.predict(images)) <= set(labels)


def test_it_works_in_cross_val_predict_with_groups(data):
    images, y, groups = data
    answers = cross_val_predict(
        tiny(), images, y, groups=groups, cv=GroupKFold(2), params={"groups": groups}
    )
    assert (answers == y).mean() > 0.9


def test_a_grid_search_hands_the_groups_on_by_metadata_routing(data, capsys):
    images, y, groups = data
    with sklearn.config_context(enable_metadata_routing=True):
        asked = tiny().set_fit_request(groups=True)
        grid = {"epochs": [1, 2]}
        search = GridSearchCV(asked, grid, cv=GroupKFold(2), refit=False, error_score="raise")
        search.fit(images, y, groups=groups)
    assert len(search.cv_results_["mean_test_score"]) == 2
    assert "No groups are given" not in capsys.readouterr().err


def test_clones_have_the_parameters_and_nothing_learnt(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "classes_")
    assert copy.set_params(epochs=3).epochs == 3


def modules_named_in(pickled):
    """The packages whose classes a pickle asks for."""
    found = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(module.split(".")[0])
            return super().find_class(module, name)

    Recorder(io.BytesIO(pickled)).load()
    return found


@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_a_pickled_estimator_answers_alike_and_holds_files_not_objects(fitted, data, tmp_path, how):
    if how == "pickle":
        (tmp_path / "estimator").write_bytes(pickle.dumps(fitted))
        again = pickle.loads((tmp_path / "estimator").read_bytes())
    else:
        joblib.dump(fitted, tmp_path / "estimator")
        again = joblib.load(tmp_path / "estimator")
    np.testing.assert_array_equal(again.predict_proba(data[0]), fitted.predict_proba(data[0]))
    assert set(vars(again._packed)) == {"files", "_loaded"}
    names = {"ensemble.json", "oof.csv", "fold_0/model.keras", "fold_1/model.keras"}
    assert set(again._packed.files) - {"unlike.npz"} == names
    # pyarrow: the text of pandas' tables.
    tables = {"kderm", "numpy", "pandas", "pyarrow", "builtins"}
    assert modules_named_in(pickle.dumps(fitted)) <= tables


def test_a_changed_member_in_a_pickle_is_refused(fitted, data):
    again = pickle.loads(pickle.dumps(fitted))
    again._packed.files["fold_1/model.keras"] = again._packed.files["fold_0/model.keras"]
    with pytest.raises(kderm.UserError, match="SHA-256"):
        again.predict(data[0])


def test_a_temporary_fit_leaves_nothing_behind(data, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    found = tiny(epochs=1).fit(*data)
    assert list(place.iterdir()) == []
    found.predict(data[0])
    assert len(list(place.iterdir())) == 1
    del found
    assert list(place.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


def test_a_named_fit_leaves_a_run_and_goes_on_with_it(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDERM_RUNS", raising=False)
    first = tiny(run="mine").fit(*data)
    run = RunDir(tmp_path / "runs" / "mine")
    assert first.run_ == str(run.path)
    assert run.report.with_suffix(".html").is_file()
    trained = run.fold(0).model.stat().st_mtime_ns
    again = tiny(run="mine").fit(*data)
    assert run.fold(0).model.stat().st_mtime_ns == trained
    np.testing.assert_array_equal(again.predict_proba(data[0]), first.predict_proba(data[0]))
    with pytest.raises(ValueError, match="other images, labels or groups"):
        tiny(run="mine").fit(data[0], data[1][::-1], data[2])
    with pytest.raises(kderm.UserError, match=r"\n  epochs: 2 -> 1"):
        tiny(run="mine", epochs=1).fit(*data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X, y, g: (X / 255.0, y, g), "uint8 array"),
        (lambda X, y, g: (X[..., 0], y, g), "uint8 array"),
        (lambda X, y, g: ("photo.jpg", y, g), "one path"),
        (lambda X, y, g: ([], y, g), "empty list"),
        (lambda X, y, g: (X, y[1:], g), "label for each of 24"),
        (lambda X, y, g: (X, y, g[1:]), "group for each of 24"),
        (lambda X, y, g: (X, ["mel"] * 24, g), "only one class"),
        (lambda X, y, g: (X, [*y[1:], None], g), "NaN"),
        (lambda X, y, g: (X, np.linspace(0, 1, 24), g), "Unknown label type"),
        (lambda X, y, g: ([*X[1:], np.zeros((4, 4))], y, g), "number 23: float64"),
    ],
)
def test_wrong_input_is_a_value_error_and_a_users_mistake(data, change, words):
    with pytest.raises(ValueError, match=words) as told:
        tiny().fit(*change(*data))
    assert isinstance(told.value, kderm.UserError)


def test_unreadable_files_are_named(data, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.fromarray(data[0][0]).save(tmp_path / "good.png")
    with pytest.raises(kderm.UserError, match=r"bad\.png"):
        tiny().fit([tmp_path / "bad.png", tmp_path / "good.png"], ["mel", "nv"])


def test_malignant_labels_get_a_threshold(fitted, data):
    table = fitted.ensemble().predict(data[0][:2])
    assert table["malignant"].notna().all()
    with pytest.raises(ValueError, match="malignant labels among"):
        tiny(malignant=["scc"]).fit(*data)


def test_classes_called_benign_and_malignant_are_both_predicted(data):
    images, y, groups = data
    named = np.where(y == "mel", "malignant", "benign")
    found = tiny().fit(images, named, groups)
    assert found.classes_.tolist() == ["benign", "malignant"]
    assert found.score(images, named) > 0.9
    ensemble = found.ensemble()
    assert ensemble.labels.malignant == ("malignant",)
    table = ensemble.predict(images, metadata={"lesion_id": list(map(str, groups))})
    np.testing.assert_allclose(table["p_benign"] + table["p_malignant"], 1, atol=1e-5)
    lesions = ensemble.predict_lesions(images, list(map(str, groups)))
    assert set(lesions["predicted"]) == {"benign", "malignant"}
    assert lesions["p_malignant"].notna().all()


@pytest.mark.parametrize(
    ("labels", "malignant", "codes"),
    [
        (["benign", "malignant"], ["malignant"], ("benign", "malignant")),
        (["benign", "malignant"], ["benign"], ("class_0", "class_1")),
        (["malignant", "mel", "nv"], ["malignant", "mel"], ("class_0", "class_1", "class_2")),
        (["malignant_uncorrected", "nv"], None, ("class_0", "class_1")),
    ],
)
def test_no_label_takes_the_column_of_a_sum(labels, malignant, codes):
    found = checked_targets(labels, len(labels), malignant)
    assert found.codes == codes
    space = label_space("custom", found.codes, found.malignant)
    assert [found.classes[i] for i in space.malignant_indices] == (malignant or [])


def test_answers_that_are_no_numbers_are_refused(fitted, data, monkeypatch):
    ensemble = fitted.ensemble()
    table = ensemble.predict(data[0][:2]).assign(p_nv=np.nan)
    monkeypatch.setattr(ensemble, "predict", lambda images, metadata=None: table)
    with pytest.raises(kderm.UserError, match="no numbers for 2 of 2"):
        ensemble.predict_proba(data[0][:2])
