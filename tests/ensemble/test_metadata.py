"""Members that look at metadata: by the bundle, from the input table, missing where unknown."""

import hashlib
import json

import keras
import numpy as np
import pandas as pd
import pytest

from kderm.data.metadata import fit_metadata
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.errors import UserError
from kderm.run_dir import RunDir

IMAGES = pd.DataFrame({"age": [30.0], "sex": ["female"], "site": ["back"]}, index=[0] * 10)
SPEC = fit_metadata(IMAGES, ("age", "sex", "site"))
HEADER = "path,age,sex,localization\n"


def with_metadata(member, seed):
    """`member` and a branch that moves the answers much."""
    keras.utils.set_random_seed(seed)
    image = keras.Input(tuple(member.inputs[0].shape[1:]), name="image")
    metadata = keras.Input((SPEC.width,), name="metadata")
    wide = keras.initializers.RandomNormal(stddev=2.0)
    shift = keras.layers.Dense(member.output_shape[-1], kernel_initializer=wide)(metadata)
    return keras.Model([image, metadata], keras.layers.Add()([member(image), shift]))


@pytest.fixture
def metadata_run(run):
    """A finished run of three members that take age, sex and site."""
    for fold in range(3):
        place = run.fold(fold)
        with_metadata(keras.saving.load_model(place.model), fold).save(place.model)
        note_in(
            place.done,
            model_sha256=hashlib.sha256(place.model.read_bytes()).hexdigest(),
            metadata=SPEC.to_dict(),
        )
    write_bundle(run)
    return run


def note_in(path, **values):
    """Change values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def table_of(folder, name, rows):
    path = folder / name
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def probabilities(table):
    return table.filter(regex="^p_(?!malignant)").to_numpy(float)


def test_the_bundle_holds_the_encoding(metadata_run):
    metadata_run.config.unlink()
    assert read_bundle(metadata_run.path).metadata == SPEC


def test_a_bundle_of_before_metadata_is_one_of_images_alone(run):
    values = json.loads(run.bundle.read_text())
    del values["metadata"]
    run.bundle.write_text(json.dumps(values))
    assert read_bundle(run.path).metadata is None


def test_answers_depend_on_the_metadata_of_the_very_image(predict, metadata_run, images, tmp_path):
    rows = ["lesion_0.png,30,female,back", "lesion_1.png,60,f,back", "lesion_2.png,,,"]
    summary, first = predict(metadata_run, [table_of(images, "a.csv", rows)], tmp_path / "a")
    rows[1] = "lesion_1.png,5,f,back"
    _, second = predict(metadata_run, [table_of(images, "b.csv", rows)], tmp_path / "b")
    moved = np.abs(probabilities(first) - probabilities(second)).max(axis=1)
    assert moved[1] > 0.01
    assert moved[[0, 2]].max() < 1e-6
    assert "1 of 3 images had none of them and 0 only a part" in str(summary)
    _, alone = predict(metadata_run, [images / "lesion_2.png"], tmp_path / "c")
    np.testing.assert_allclose(probabilities(alone)[0], probabilities(first)[2], atol=1e-6)


def test_metadata_stay_with_their_image_across_chunks_and_unreadable_ones(
    predict, metadata_run, images, tmp_path
):
    (images / "lesion_1.png").write_bytes(b"no picture")
    rows = [f"lesion_{number}.png,{10 * number},female,back" for number in range(6)]
    table = table_of(images, "all.csv", rows)
    _, whole = predict(metadata_run, [table], tmp_path / "whole")
    _, parts = predict(metadata_run, [table], tmp_path / "parts", chunk=4, batch_size=1)
    assert (whole["error"] != "").tolist() == [False, True, *[False] * 4]
    readable = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(
        probabilities(parts.iloc[readable]), probabilities(whole.iloc[readable]), atol=1e-5
    )
    for number in readable:
        one = table_of(images, f"one_{number}.csv", [rows[number]])
        _, alone = predict(metadata_run, [one], tmp_path / f"one_{number}")
        expected = probabilities(whole.iloc[[number]])
        np.testing.assert_allclose(probabilities(alone), expected, atol=1e-5)


def test_a_table_with_all_metadata_needs_no_warning(predict, metadata_run, images, tmp_path):
    rows = ["lesion_0.png,0,female,back", "lesion_1.png,60,female,back"]
    summary, _ = predict(metadata_run, [table_of(images, "a.csv", rows)], tmp_path / "out")
    assert not any("beside the image" in warning for warning in summary.warnings)
    rows[1] = "lesion_1.png,60,female,moon"
    summary, _ = predict(metadata_run, [table_of(images, "b.csv", rows)], tmp_path / "more")
    assert any("0 of 2 images had none of them and 1 only" in line for line in summary.warnings)


def test_members_of_images_alone_say_nothing_of_metadata(predict, trained, images, tmp_path):
    summary, _ = predict(trained, [images], tmp_path / "out")
    assert not any("beside the image" in warning for warning in summary.warnings)


def test_an_interrupted_call_is_not_continued_with_other_metadata(
    predict, metadata_run, images, tmp_path, interrupt_after
):
    rows = [f"lesion_{number}.png,30,female,back" for number in range(9)]
    table = table_of(images, "all.csv", rows)
    interrupt_after(metadata_run, table, tmp_path / "out", 5)
    table_of(images, "all.csv", [row.replace(",30,", ",80,") for row in rows])
    summary, found = predict(metadata_run, [table], tmp_path / "out", chunk=2)
    assert summary.resumed == 0
    _, fresh = predict(metadata_run, [table], tmp_path / "fresh", chunk=2)
    np.testing.assert_array_equal(probabilities(found), probabilities(fresh))


def test_folds_that_encode_metadata_differently_make_no_bundle(metadata_run):
    other = fit_metadata(IMAGES, ("age",))
    note_in(metadata_run.fold(2).done, metadata=other.to_dict())
    with pytest.raises(UserError, match=r"encode metadata alike.*fold 2"):
        write_bundle(metadata_run)


def test_members_that_take_other_metadata_than_the_bundle_says_are_refused(
    predict, metadata_run, images, tmp_path
):
    note_in(metadata_run.bundle, metadata=None)
    with pytest.raises(
        UserError, match=r"an input of .*, metadata of the width 0 .*Received: .* width 6 "
    ):
        predict(RunDir(metadata_run.path), [images], tmp_path / "out")
    bad = {"columns": [{"name": "diagnosis", "values": []}]}
    note_in(metadata_run.bundle, metadata=bad)
    with pytest.raises(UserError, match=r"metadata\.columns"):
        read_bundle(metadata_run.path)
