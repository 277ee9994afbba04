import os

import keras
import numpy as np
import pandas as pd
import pytest

import kderm.ensemble.predictor as predictor
from kderm.data.images import read_image
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.combine import average_members
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.predictor import ensemble_predict
from kderm.errors import UserError
from kderm.labels import HAM10000
from kderm.models.averaging import average_views
from kderm.models.forward import Forward

NUMBERS = [*HAM10000.columns, "p_malignant", "fold_sd", "malignant_sd", "entropy"]


def predict(run, sources, directory, **options):
    bundle = read_bundle(run.path)
    inputs = find_inputs([str(source) for source in sources], bundle.labels)
    options = {"batch_size": 4} | options
    summary = ensemble_predict(bundle, inputs, directory, **options)
    table = pd.read_csv(summary.predictions, keep_default_na=False).set_index("image_id")
    return summary, table


def numbers(table):
    return table[NUMBERS].to_numpy(dtype=np.float64)


@pytest.fixture
def passes(monkeypatch):
    """The number of images of every forward pass of every member."""
    seen = []
    call = Forward.__call__

    def counted(self, images, transforms, progress=None):
        seen.append(len(images))
        return call(self, images, transforms, progress)

    monkeypatch.setattr(Forward, "__call__", counted)
    return seen


@pytest.mark.parametrize("how", ["probability", "logit", "oof"])
def test_the_table_holds_the_combined_answers_of_all_members_and_views(
    trained, images, tmp_path, how
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
    np.testing.assert_allclose(table[HAM10000.columns].to_numpy(), expected, atol=1e-6)
    assert expected.std(axis=0).max() > 0.05  # the pictures differ, so the test can fail


def test_one_image_alone_equals_its_row_in_a_folder(trained, images, tmp_path):
    _, together = predict(trained, [images], tmp_path / "all")
    for name in ("lesion_0", "lesion_8"):
        _, alone = predict(trained, [images / f"{name}.png"], tmp_path / name)
        np.testing.assert_allclose(numbers(alone), numbers(together.loc[[name]]), atol=1e-6)
        assert alone["predicted"].tolist() == [together.loc[name, "predicted"]]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64}, {"chunk": 2}])
def test_batch_and_chunk_sizes_change_no_answer(trained, images, tmp_path, options):
    _, usual = predict(trained, [images], tmp_path / "usual")
    _, other = predict(trained, [images], tmp_path / "other", **options)
    np.testing.assert_allclose(numbers(other), numbers(usual), atol=1e-6)


def test_the_order_of_the_images_changes_no_answer(trained, images, tmp_path):
    files = sorted(images.iterdir())
    _, forwards = predict(trained, files, tmp_path / "forwards")
    _, backwards = predict(trained, files[::-1], tmp_path / "backwards")
    assert backwards.index.tolist() == forwards.index.tolist()[::-1]
    np.testing.assert_allclose(numbers(backwards.loc[forwards.index]), numbers(forwards), atol=1e-6)


def test_the_columns_of_a_row_agree_with_each_other(trained, images, tmp_path):
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
    trained, images, tmp_path
):
    _, before = predict(trained, [images], tmp_path / "before")
    (images / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    (images / "empty.png").write_bytes(b"")
    (images / "notes.txt").write_text("no image")
    summary, after = predict(trained, [images], tmp_path / "after", chunk=3)
    assert (summary.images, summary.unreadable, summary.skipped) == (11, 2, 1)
    assert "2 unreadable" in str(summary)
    assert "1 other file(s) skipped" in str(summary)
    bad = after[after["error"] != ""]
    assert bad.index.tolist() == ["broken", "empty"]
    assert bad["error"].tolist() == ["truncated JPEG: it has no end marker", "the file is empty"]
    assert (bad.drop(columns=["path", "error"]) == "").all(axis=None)
    np.testing.assert_allclose(numbers(after.loc[before.index]), numbers(before), atol=1e-6)


def test_a_missing_file_of_a_csv_is_listed_among_the_rest(trained, images, tmp_path):
    table = images / "list.csv"
    table.write_text("image_id\nlesion_3\ngone\n")
    summary, result = predict(trained, [table], tmp_path / "out")
    assert (summary.images, summary.unreadable) == (2, 1)
    assert "no image of this name" in result.loc["gone", "error"]


def test_nothing_but_unreadable_files_still_gives_the_list_of_reasons(trained, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    summary, table = predict(trained, [tmp_path / "x.jpg"], tmp_path / "out")
    assert (summary.unreadable, summary.report) == (1, None)
    assert str(summary).startswith("0 of 1 image(s) predicted\n1 unreadable")
    assert table.loc["x", "error"] == "the file is empty"


def test_members_that_agree_have_no_spread(identical_run, images, tmp_path):
    write_bundle(identical_run)
    _, table = predict(identical_run, [images], tmp_path / "out")
    np.testing.assert_allclose(table[["fold_sd", "malignant_sd"]].astype(float), 0, atol=1e-7)


def test_an_interrupted_prediction_continues_after_its_finished_chunks(
    trained, images, tmp_path, passes
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


def test_another_batch_size_continues_too(trained, images, tmp_path, passes):
    interrupt_after(trained, images, tmp_path / "out", 4)
    passes.clear()
    predict(trained, [images], tmp_path / "out", chunk=2, batch_size=1)
    assert sum(passes) == 3 * 7


@pytest.mark.parametrize("change", ["views", "combine", "file", "list", "bundle"])
def test_parts_of_another_question_are_not_used(
    trained, run, images, tmp_path, passes, picture, change
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


def interrupt_after(run, images, out, count):
    """Stop when `count` images have been predicted, the last chunk of 2 not kept yet."""

    def interrupt(done, total):
        if done >= count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(run, [images], out, chunk=2, progress=interrupt)


def test_a_damaged_part_is_predicted_again(trained, images, tmp_path):
    out = tmp_path / "out"
    interrupt_after(trained, images, out, 6)
    parts = sorted((out / ".parts").rglob("*.npz"))
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[:100])
    summary, table = predict(trained, [images], out, chunk=2)
    assert summary.resumed == 2
    _, whole = predict(trained, [images], tmp_path / "whole", chunk=2)
    pd.testing.assert_frame_equal(table, whole)


def test_a_second_call_predicts_anew_and_replaces_the_result(trained, images, tmp_path, passes):
    out = tmp_path / "out"
    predict(trained, [images], out)
    (images / "lesion_0.png").unlink()
    passes.clear()
    summary, table = predict(trained, [images], out)
    assert (len(table), summary.resumed, sum(passes)) == (8, 0, 3 * 8)


def test_where_labels_are_known_there_is_a_report(trained, images, tmp_path):
    out = tmp_path / "out"
    summary, table = predict(trained, [labelled(images)], out)
    assert summary.report == out / "report.md"
    assert (out / "metrics.json").exists()
    assert list((out / "figures").glob("*.png"))
    assert table["label"].tolist() == ["mel", "nv", "nv", "mel", "nv", "", "bcc", "nv", "nv"]
    assert summary.labelled == summary.metrics["n_images"] == 8
    right = [p == t for p, t in zip(table["predicted"], table["label"], strict=True) if t]
    assert summary.metrics["pooled"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    # lesion_0 and lesion_1 are one lesion, lesion_2 and lesion_3 one patient.
    assert summary.metrics["n_groups"] == 6
    text = summary.report.read_text()
    assert "images without a label, left out | 1 |" in text
    assert "sensitivity at the frozen threshold" in text
    assert (summary.seen, summary.warnings) == (0, ())


def labelled(folder):
    """A CSV beside the pictures with labels for all but one."""
    codes = ["mel", "nv", "nv", "mel", "nv", "", "bcc", "nv", "nv"]
    lesions, patients = ["L", "L"] + [""] * 7, ["", "", "P", "P"] + [""] * 5
    table = pd.DataFrame({"image_id": [f"lesion_{i}" for i in range(9)], "label": codes})
    table = table.assign(lesion_id=lesions, patient_id=patients)
    table.to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def test_a_result_without_labels_does_not_keep_an_older_report(trained, images, tmp_path):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    for name in ("predictions.csv", "report.md", "metrics.json", "figures/roc.png", "mine.txt"):
        (out / name).write_text("of an earlier call")
    predict(trained, [images / "lesion_1.png"], out)
    left = sorted(path.name for path in out.iterdir())
    assert left == [".lock", "mine.txt", "predictions.csv", "sources.json"]


def test_training_images_among_the_inputs_are_counted_and_told(trained, images, tmp_path):
    (images / "lesion_1.png").rename(images / "train_0_3.png")
    summary, _ = predict(trained, [images], tmp_path / "out")
    assert summary.seen == 1
    assert "1 of 9 image(s)" in summary.warnings[0]
    assert "2 of 3 members were trained" in summary.warnings[0]


def test_a_report_over_nothing_but_training_images_says_so_loudly(trained, tmp_path, picture):
    for number, code in enumerate(["mel", "nv", "bcc"]):
        picture(tmp_path / "data" / code / f"train_1_{number}.png", number)
    summary, _ = predict(trained, [tmp_path / "data"], tmp_path / "out")
    assert summary.seen == 3
    assert "WARNING: ALL 3 image(s)" in str(summary)
    assert "NOT A TEST" in summary.report.read_text().splitlines()[0]


def test_a_bundle_without_its_out_of_fold_table_admits_that_it_does_not_know(run, images, tmp_path):
    run.oof.unlink()
    summary, _ = predict(run, [images], tmp_path / "out")
    assert summary.seen is None
    assert "unknown whether" in summary.warnings[0]


@pytest.mark.parametrize("options", [{"views": "d4"}, {"combine": "logit"}])
def test_other_views_or_combining_than_the_thresholds_own_are_told(
    trained, images, tmp_path, options
):
    summary, _ = predict(trained, [images], tmp_path / "out", **options)
    (warning,) = summary.warnings
    assert f"views {options.get('views', 'flips')} and combine" in warning
    assert "report speaks of views flips and combine probability" in warning
    assert "malignant threshold was fitted with them" in warning
    assert f"WARNING: {warning}" in str(summary)


def test_the_bundles_own_views_and_combining_need_no_warning(trained, images, tmp_path):
    summary, _ = predict(trained, [images], tmp_path / "out", views="flips", combine="probability")
    assert summary.warnings == ()


def test_a_place_that_cannot_be_written_is_told_before_any_work(trained, images, tmp_path, passes):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write to .*file/out"):
        predict(trained, [images], tmp_path / "file" / "out")
    assert passes == []


def test_two_calls_at_a_time_do_not_write_to_one_folder(trained, images, tmp_path):
    told = []

    def meanwhile(done, total):
        with pytest.raises(UserError, match=r"Another ensemble-predict is writing .* --out"):
            predict(trained, [images], tmp_path / "out", views="none")
        told.append(done)

    summary, table = predict(trained, [images], tmp_path / "out", chunk=4, progress=meanwhile)
    _, alone = predict(trained, [images], tmp_path / "alone", chunk=4)
    assert told
    assert summary.resumed == 0
    pd.testing.assert_frame_equal(table, alone)


def test_a_result_in_the_runs_own_folder_is_not_replaced_by_that_of_other_sources(
    run, tmp_path, picture, passes
):
    place = run.predictions / "images"
    first, second = (tmp_path / name / "images" for name in ("monday", "tuesday"))
    for number, folder in enumerate((first, second)):
        picture(folder / "x.png", number)
    _, before = predict(run, [first], place)
    passes.clear()
    with pytest.raises(UserError) as caught:
        predict(run, [second], place)
    assert f"holds the predictions of {first}. Received: {second}." in str(caught.value)
    assert "--out" in str(caught.value)
    assert passes == []
    _, again = predict(run, [first], place)
    pd.testing.assert_frame_equal(again, before)
    predict(run, [first], tmp_path / "chosen")
    _, replaced = predict(run, [second], tmp_path / "chosen")
    assert replaced["path"].tolist() == [str(second / "x.png")]


def test_an_interrupted_result_of_other_sources_blocks_no_one(run, images, tmp_path, picture):
    interrupt_after(run, images, run.predictions / "images", 4)
    picture(tmp_path / "other" / "x.png", 1)
    summary, _ = predict(run, [tmp_path / "other"], run.predictions / "images")
    assert summary.images == 1


def test_the_report_of_the_run_itself_is_not_overwritten(trained, images):
    with pytest.raises(UserError, match="would overwrite the report of the run"):
        predict(trained, [images], trained.path)


def test_results_do_not_land_among_the_inputs_figures(trained, tmp_path, picture):
    picture(tmp_path / "figures" / "x.png", 1)
    with pytest.raises(UserError, match=r"input image.s. lie in its folder figures/"):
        predict(trained, [tmp_path], tmp_path)


@pytest.mark.parametrize("options", [{"views": "d5"}, {"combine": "oov"}])
def test_unknown_views_or_ways_of_combining_name_the_nearest(trained, images, tmp_path, options):
    with pytest.raises(UserError, match="Did you mean"):
        predict(trained, [images], tmp_path / "out", **options)


def test_a_batch_without_images_is_refused(trained, images, tmp_path):
    with pytest.raises(UserError, match="at least 1 image"):
        predict(trained, [images], tmp_path / "out", batch_size=0)


def test_an_accelerator_gets_the_same_batch_shape_for_one_image_as_for_many(
    trained, images, tmp_path, monkeypatch
):
    sizes = []
    begin = Forward.__init__

    def watched(self, classifier, frame, batch_size, **options):
        sizes.append(batch_size)
        begin(self, classifier, frame, batch_size, **options)

    monkeypatch.setattr(Forward, "__init__", watched)
    predict(trained, [images / "lesion_1.png"], tmp_path / "cpu")
    monkeypatch.setattr(predictor, "device_name", lambda: "NVIDIA H100")
    predict(trained, [images / "lesion_1.png"], tmp_path / "gpu")
    assert sizes == [1, 1, 1, 4, 4, 4]


def test_a_member_that_does_not_fit_its_bundle_is_refused(run, images, tmp_path):
    run.bundle.write_text(run.bundle.read_text().replace('"size": 32', '"size": 33'))
    with pytest.raises(UserError, match=r"Expected an input of \(33, 33, 3\)"):
        predict(run, [images], tmp_path / "out")


def test_memory_is_bound_by_the_bytes_of_a_chunk(trained, images, tmp_path, monkeypatch, passes):
    monkeypatch.setattr(predictor, "MAX_CHUNK_BYTES", 2 * 40 * 40 * 3)
    predict(trained, [images], tmp_path / "out", batch_size=9)
    assert max(passes) == 2


def test_a_link_in_place_of_a_file_is_read_through(trained, images, tmp_path):
    os.symlink(images / "lesion_2.png", tmp_path / "link.png")
    _, table = predict(trained, [tmp_path / "link.png"], tmp_path / "out")
    assert table["error"].tolist() == [""]
