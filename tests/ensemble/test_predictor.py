import os
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest

import kderm.ensemble.predictor as predictor
from kderm.data.images import read_image
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.combine import average_members
from kderm.ensemble.engines import keras_engines
from kderm.errors import UserError
from kderm.labels import HAM10000
from kderm.models.averaging import average_views
from kderm.models.forward import Forward

NUMBERS = [*HAM10000.columns, "p_malignant", "fold_sd", "malignant_sd", "entropy"]


def numbers(table):
    return table[NUMBERS].to_numpy(dtype=np.float64)


@pytest.mark.parametrize("how", ["probability", "logit", "oof"])
def test_the_table_holds_the_combined_answers_of_all_members_and_views(
    predict, trained, images, tmp_path, how
):
    bundle = read_bundle(trained.path)
    _, table = predict(trained, [images], tmp_path / "out", combine=how, views="d4")
    frames = np.stack([read_image(path, bundle.spec) for path in table["path"]])
    transforms = view_transforms("d4", bundle.frame)
    members = [
        Forward(keras.saving.load_model(path), bundle.frame, 9)(frames, transforms)
        for path in bundle.member_paths
    ]
    answers = np.stack(members, axis=1)  # (n, m, v, k)
    weights = np.array([1, 2, 3]) / 6 if how == "oof" else None
    expected = average_members(average_views(answers, how), how, weights)
    expected = bundle.calibration.apply(expected)
    np.testing.assert_allclose(table[HAM10000.columns].to_numpy(), expected, atol=1e-6)
    assert expected.std(axis=0).max() > 0.05  # the pictures differ, so the test can fail


def test_one_image_alone_equals_its_row_in_a_folder(predict, trained, images, tmp_path):
    _, together = predict(trained, [images], tmp_path / "all")
    for name in ("lesion_0", "lesion_8"):
        _, alone = predict(trained, [images / f"{name}.png"], tmp_path / name)
        np.testing.assert_allclose(numbers(alone), numbers(together.loc[[name]]), atol=1e-6)
        assert alone["predicted"].tolist() == [together.loc[name, "predicted"]]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64}, {"chunk": 2}])
def test_batch_and_chunk_sizes_change_no_answer(predict, trained, images, tmp_path, options):
    _, usual = predict(trained, [images], tmp_path / "usual")
    _, other = predict(trained, [images], tmp_path / "other", **options)
    np.testing.assert_allclose(numbers(other), numbers(usual), atol=1e-6)


def test_the_order_of_the_images_changes_no_answer(predict, trained, images, tmp_path):
    files = sorted(images.iterdir())
    _, forwards = predict(trained, files, tmp_path / "forwards")
    _, backwards = predict(trained, files[::-1], tmp_path / "backwards")
    assert backwards.index.tolist() == forwards.index.tolist()[::-1]
    np.testing.assert_allclose(numbers(backwards.loc[forwards.index]), numbers(forwards), atol=1e-6)


def test_the_columns_of_a_row_agree_with_each_other(predict, trained, images, tmp_path):
    summary, table = predict(trained, [images], tmp_path / "out")
    probabilities = table[HAM10000.columns].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    best = probabilities.argmax(axis=1)
    assert table["predicted"].tolist() == [HAM10000.codes[i] for i in best]
    assert table["predicted_name"].tolist() == [HAM10000.names[i] for i in best]
    malignant = probabilities[:, HAM10000.malignant_indices].sum(axis=1)
    np.testing.assert_allclose(table["p_malignant"], malignant, atol=1e-6)
    flags = (malignant >= read_bundle(trained.path).threshold).astype(int)
    assert table["malignant"].astype(int).tolist() == flags.tolist()
    assert summary.flagged == flags.sum()
    assert sum(summary.predicted.values()) == summary.images == 9
    assert (table["fold_sd"] > 0).all()
    assert "label" not in table.columns


def test_unreadable_files_are_listed_with_the_reason_and_change_nothing_else(
    predict, trained, images, tmp_path
):
    _, before = predict(trained, [images], tmp_path / "before")
    (images / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    (images / "empty.png").write_bytes(b"")
    (images / "notes.txt").write_text("no image")
    summary, after = predict(trained, [images], tmp_path / "after", chunk=3)
    assert (summary.images, summary.unreadable, summary.skipped) == (11, 2, 1)
    assert "2 unreadable" in str(summary)
    assert "1 other file skipped" in str(summary)
    bad = after[after["error"] != ""]
    assert bad.index.tolist() == ["broken", "empty"]
    assert bad["error"].tolist() == ["truncated JPEG: it has no end marker", "the file is empty"]
    assert (bad.drop(columns=["path", "error"]) == "").all(axis=None)
    np.testing.assert_allclose(numbers(after.loc[before.index]), numbers(before), atol=1e-6)


def test_a_missing_file_of_a_csv_is_listed_among_the_rest(predict, trained, images, tmp_path):
    table = images / "list.csv"
    table.write_text("image_id\nlesion_3\ngone\n")
    summary, result = predict(trained, [table], tmp_path / "out")
    assert (summary.images, summary.unreadable) == (2, 1)
    assert "no image of this name" in result.loc["gone", "error"]


def test_nothing_but_unreadable_files_still_gives_the_list_of_reasons(predict, trained, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    summary, table = predict(trained, [tmp_path / "x.jpg"], tmp_path / "out")
    assert (summary.unreadable, summary.report) == (1, None)
    assert str(summary).startswith("0 of 1 image predicted\n1 unreadable")
    assert table.loc["x", "error"] == "the file is empty"
    many = replace(summary, images=401_200, unreadable=1_200)
    assert str(many).startswith("400,000 of 401,200 images predicted\n1,200 unreadable")


def test_members_that_agree_have_no_spread(predict, identical_run, images, tmp_path):
    write_bundle(identical_run)
    _, table = predict(identical_run, [images], tmp_path / "out")
    np.testing.assert_allclose(table[["fold_sd", "malignant_sd"]].astype(float), 0, atol=1e-7)


def test_an_interrupted_prediction_continues_after_its_finished_chunks(
    predict, trained, images, tmp_path, passes
):
    out = tmp_path / "out"
    _, whole = predict(trained, [images], tmp_path / "whole", chunk=2)
    passes.clear()

    def interrupt(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(trained, [images], out, chunk=2, progress=interrupt)
    # Two chunks were kept; the third was predicted, but its passes' report came first.
    assert sum(passes) == 3 * 6
    assert not (out / "predictions.csv").exists()
    passes.clear()
    reports = []
    summary, resumed = predict(
        trained, [images], out, chunk=2, progress=lambda *counts: reports.append(counts)
    )
    assert sum(passes) == 3 * 5
    assert summary.resumed == 4
    assert (reports[0], reports[-1]) == ((4, 9), (9, 9))
    pd.testing.assert_frame_equal(resumed, whole)
    assert not (out / ".parts").exists()


def test_another_batch_size_continues_too(
    interrupt_after, predict, trained, images, tmp_path, passes
):
    interrupt_after(trained, images, tmp_path / "out", 4)
    passes.clear()
    predict(trained, [images], tmp_path / "out", chunk=2, batch_size=1)
    assert sum(passes) == 3 * 7


@pytest.mark.parametrize("change", ["views", "combine", "file", "list", "bundle"])
def test_parts_of_another_question_are_not_used(
    interrupt_after, predict, trained, run, images, tmp_path, passes, picture, change
):
    interrupt_after(trained, images, tmp_path / "out", 4)
    passes.clear()
    options, asked = {}, trained
    if change in ("views", "combine"):
        options = {"views": "none"} if change == "views" else {"combine": "logit"}
    elif change == "file":
        picture(images / "lesion_0.png", 77)
    elif change == "list":
        (images / "lesion_0.png").unlink()
    else:
        run.bundle.write_text(run.bundle.read_text().replace("flips", "none"))
        asked = run
    summary, _ = predict(asked, [images], tmp_path / "out", chunk=2, **options)
    assert summary.resumed == 0
    assert sum(passes) == 3 * summary.images


def test_a_damaged_part_is_predicted_again(interrupt_after, predict, trained, images, tmp_path):
    out = tmp_path / "out"
    interrupt_after(trained, images, out, 6)
    parts = sorted((out / ".parts").rglob("*.npz"))
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    summary, table = predict(trained, [images], out, chunk=2)
    assert summary.resumed == 2
    _, whole = predict(trained, [images], tmp_path / "whole", chunk=2)
    pd.testing.assert_frame_equal(table, whole)


def test_a_second_call_predicts_anew_and_replaces_the_result(
    predict, trained, images, tmp_path, passes
):
    out = tmp_path / "out"
    predict(trained, [images], out)
    (images / "lesion_0.png").unlink()
    passes.clear()
    summary, table = predict(trained, [images], out)
    assert (len(table), summary.resumed, sum(passes)) == (8, 0, 3 * 8)


@pytest.mark.parametrize("options", [{"views": "flip"}, {"combine": "oov"}])
def test_unknown_views_or_ways_of_combining_name_the_nearest(
    predict, trained, images, tmp_path, options
):
    with pytest.raises(UserError, match="Did you mean"):
        predict(trained, [images], tmp_path / "out", **options)


def test_a_batch_without_images_is_refused(predict, trained, images, tmp_path):
    with pytest.raises(UserError, match="at least 1 image"):
        predict(trained, [images], tmp_path / "out", batch_size=0)


def test_an_accelerator_gets_the_same_batch_shape_for_one_image_as_for_many(
    predict, trained, images, tmp_path, monkeypatch
):
    sizes = []
    call = keras.Model.__call__

    def watched(self, given, **options):
        if self.name == "answering":
            sizes.append(len(given[0]))
        return call(self, given, **options)

    monkeypatch.setattr(keras.Model, "__call__", watched)
    predict(trained, [images / "lesion_1.png"], tmp_path / "cpu", views="none")
    monkeypatch.setattr(keras_engines, "device_name", lambda: "NVIDIA H100")
    predict(trained, [images / "lesion_1.png"], tmp_path / "gpu", views="none")
    assert sizes == [1, 1, 1, 4, 4, 4]


def test_a_member_that_does_not_fit_its_bundle_is_refused(predict, run, images, tmp_path):
    run.bundle.write_text(run.bundle.read_text().replace('"size": 32', '"size": 33'))
    with pytest.raises(UserError, match=r"Expected an input of \(33, 33, 3\)"):
        predict(run, [images], tmp_path / "out")


def test_memory_is_bound_by_the_bytes_of_a_chunk(
    predict, trained, images, tmp_path, monkeypatch, passes
):
    monkeypatch.setattr(predictor, "MAX_CHUNK_BYTES", 2 * 40 * 40 * 3)
    predict(trained, [images], tmp_path / "out", batch_size=9)
    assert max(passes) == 2


@pytest.mark.parametrize(("options", "size"), [({}, 8), ({"early_exit": 0.01}, 1)])
def test_a_batch_of_one_image_is_as_large_as_what_is_shown_together(
    predict, trained, images, tmp_path, monkeypatch, options, size
):
    made, opened = [], predictor.open_engine

    def noted(*arguments, **settings):
        made.append(opened(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr(predictor, "open_engine", noted)
    options = {"views": "d4", "batch_size": 32} | options
    predict(trained, [images / "lesion_0.png"], tmp_path / "out", **options)
    assert [engine.batch_size for engine in made] == [size]


def test_a_link_in_place_of_a_file_is_read_through(predict, trained, images, tmp_path):
    os.symlink(images / "lesion_2.png", tmp_path / "link.png")
    _, table = predict(trained, [tmp_path / "link.png"], tmp_path / "out")
    assert table["error"].tolist() == [""]
