import pandas as pd
import pytest

from kderm.commands.prediction import ensemble_predict
from kderm.ensemble.bundle import read_bundle
from kderm.errors import UserError


def test_a_result_without_labels_does_not_keep_an_older_report(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    for name in ("predictions.csv", "report.md", "metrics.json", "figures/roc.png", "mine.txt"):
        (out / name).write_text("of an earlier call")
    predict(trained, [images / "lesion_1.png"], out)
    left = sorted(path.name for path in out.iterdir())
    assert left == [".lock", "mine.txt", "predictions.csv", "sources.json"]


def test_a_place_that_cannot_be_written_is_told_before_any_work(
    predict, trained, images, tmp_path, passes
):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write to .*file/out"):
        predict(trained, [images], tmp_path / "file" / "out")
    assert passes == []


def test_two_calls_at_a_time_do_not_write_to_one_folder(predict, trained, images, tmp_path):
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
    predict, run, tmp_path, picture, passes
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


def test_an_interrupted_result_of_other_sources_blocks_no_one(
    interrupt_after, predict, run, images, tmp_path, picture
):
    interrupt_after(run, images, run.predictions / "images", 4)
    picture(tmp_path / "other" / "x.png", 1)
    summary, _ = predict(run, [tmp_path / "other"], run.predictions / "images")
    assert summary.images == 1


def test_the_report_of_the_run_itself_is_not_overwritten(predict, trained, images):
    with pytest.raises(UserError, match="would overwrite the report of the run"):
        predict(trained, [images], trained.path)


def test_results_do_not_land_among_the_inputs_figures(predict, trained, tmp_path, picture):
    picture(tmp_path / "figures" / "x.png", 1)
    with pytest.raises(UserError, match=r"folder figures/, .* holds 1 input image: "):
        predict(trained, [tmp_path], tmp_path)


def test_a_result_asked_for_otherwise_lies_beside_the_one_that_is_there(run, images):
    def predicted(**options):
        before = set(run.predictions.glob("*"))
        asked = {"views": None, "combine": None} | options
        ensemble_predict([str(images)], str(run.path), None, **asked)
        return [path.name for path in set(run.predictions.glob("*")) - before]

    assert predicted() == ["images"]
    table = (run.predictions / "images" / "predictions.csv").read_bytes()
    assert predicted(views="d4", combine="logit") == ["images_views-d4_combine-logit"]
    assert predicted(prevalence="mel=0.02") == ["images_prevalence-mel-0.02"]
    assert predicted(prevalence="mel=0.02") == []
    assert predicted(views=read_bundle(run.path).facts.views) == []
    assert (run.predictions / "images" / "predictions.csv").read_bytes() == table
