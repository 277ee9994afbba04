"""`ensemble-predict --prevalence`: what is stated, what it changes and what it leaves."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.prevalence import stated_prevalence
from kderm.errors import UserError
from kderm.evaluation.calibration.prevalence import to_prevalence
from kderm.labels import BINARY, HAM10000

MEL = HAM10000.index("mel")


def probabilities(table):
    return table[HAM10000.columns].to_numpy(dtype=np.float64)


def test_the_answers_are_corrected_from_the_bundles_prior_to_what_is_stated(
    predict, trained, images, tmp_path
):
    bundle = read_bundle(trained.path)
    stated = stated_prevalence(bundle, "mel=0.02")
    _, plain = predict(trained, [images], tmp_path / "plain")
    summary, table = predict(trained, [images], tmp_path / "out", prevalence=stated)
    there = np.full(7, 0.98 / 6)
    there[MEL] = 0.02
    expected = to_prevalence(probabilities(plain), np.array(bundle.prior.answers), there)
    np.testing.assert_allclose(probabilities(table), expected, rtol=1e-5)
    assert (table["p_mel"] < plain["p_mel"]).all()
    likeliest = np.array(HAM10000.codes)[expected.argmax(axis=1)]
    assert table["predicted"].tolist() == likeliest.tolist()
    assert table["predicted"].tolist() != plain["predicted"].tolist()  # so that it can fail
    malignant = expected[:, HAM10000.malignant_indices].sum(axis=1)
    np.testing.assert_allclose(table["p_malignant"], malignant, rtol=1e-5)
    assert "corrected to a prevalence of mel 0.02" in str(summary)


def test_flags_points_and_sets_are_those_of_the_answers_before(predict, trained, images, tmp_path):
    stated = stated_prevalence(read_bundle(trained.path), "malignant=0.01")
    _, plain = predict(trained, [images], tmp_path / "plain")
    _, table = predict(trained, [images], tmp_path / "out", prevalence=stated)
    same = ["malignant", "operating_points", "conformal_set", "fold_sd", "vote_agreement"]
    pd.testing.assert_frame_equal(table[same], plain[same])
    assert plain["malignant"].astype(int).sum() > 0  # so that it can fail
    assert (table["p_malignant_uncorrected"] == plain["p_malignant"]).all()
    assert (table["p_malignant"] < plain["p_malignant"]).all()
    assert "p_malignant_uncorrected" not in plain


def test_the_folder_records_the_prevalence_and_forgets_it_with_the_answers(
    predict, trained, images, tmp_path
):
    bundle = read_bundle(trained.path)
    out = tmp_path / "out"
    stated = stated_prevalence(bundle, "melanoma = 0.02, bcc=.03")
    predict(trained, [images], out, prevalence=stated)
    kept = json.loads((out / "prevalence.json").read_text())
    assert kept["stated"] == {"mel": 0.02, "bcc": 0.03}
    assert kept["corrected_to"]["nv"] == pytest.approx(0.95 / 5)
    assert list(kept["corrected_from"]) == list(HAM10000.codes)
    assert list(kept["corrected_from"].values()) == pytest.approx(bundle.prior.answers, rel=1e-6)
    predict(trained, [images], out)
    assert not (out / "prevalence.json").exists()


def test_an_image_that_cannot_be_read_is_corrected_to_nothing(predict, trained, images, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    stated = stated_prevalence(read_bundle(trained.path), "mel=0.02")
    _, table = predict(trained, [images], tmp_path / "out", prevalence=stated)
    assert (table.loc["broken", [*HAM10000.columns, "predicted", "p_malignant"]] == "").all()


def test_the_report_is_of_the_answers_before_and_says_so(predict, trained, images, tmp_path):
    codes = ["mel", "nv", "nv", "mel", "nv", "bcc", "bcc", "nv", "nv"]
    ids = [f"lesion_{i}" for i in range(9)]
    pd.DataFrame({"image_id": ids, "label": codes}).to_csv(images / "list.csv", index=False)
    source = [images / "list.csv"]
    stated = stated_prevalence(read_bundle(trained.path), "nv=0.9")
    plain, before = predict(trained, source, tmp_path / "plain")
    summary, after = predict(trained, source, tmp_path / "out", prevalence=stated)
    assert (before["predicted"] != after["predicted"]).any()  # so that the rest can fail
    for key in ("pooled", "operating_points", "conformal"):
        assert summary.metrics[key] == plain.metrics[key]
    words = "this report is of the answers before their correction to a prevalence of nv 0.9"
    assert words in summary.report.with_suffix(".md").read_text()
    assert "9 labelled images (answers before the correction): macro_auc" in str(summary)
    assert words not in plain.report.with_suffix(".md").read_text()


def test_malignant_is_all_malignant_classes_together(trained):
    stated = stated_prevalence(read_bundle(trained.path), "malignant=0.05")
    there = np.array(stated.prior_to)
    assert there[HAM10000.malignant_indices].sum() == pytest.approx(0.05)
    assert len(set(there[HAM10000.malignant_indices].round(9))) == 1  # proportions as they were


def test_in_a_label_space_of_two_sides_malignant_is_the_class(trained, run):
    facts = json.loads(run.bundle.read_text())
    two = {"images": [0.8, 0.2], "answers": [0.5, 0.5], "fitted_on": "oof"}
    facts |= {"labels": BINARY.to_dict(), "prior": two, "calibration": None}
    facts |= {"operating_points": [], "conformal": None}
    run.bundle.write_text(json.dumps(facts))
    bundle = read_bundle(run.path)
    for text in ("malignant=0.05", "benign=0.95", "benign=0.95,malignant=0.05"):
        np.testing.assert_allclose(stated_prevalence(bundle, text).prior_to, [0.95, 0.05])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'', which is no CODE=SHARE"),
        ("mel", "'mel', which is no CODE=SHARE"),
        ("mel=0.02,", "'', which is no CODE=SHARE"),
        ("melanom=0.02", r"'melanom', which is no class of ham10000 \(nearest: mel"),
        ("qqq=0.02", r"'qqq', which is no class of ham10000 \(known: .*malignant"),
        ("mel=2%", "'2%' for mel, which is not a number"),
        ("mel=0", "0 for mel, which is not between 0 and 1"),
        ("mel=1", "1 for mel, which is not between 0 and 1"),
        ("mel=-0.1", "-0.1 for mel, which is not between"),
        ("mel=nan", "nan for mel, which is not between"),
        ("mel=0.5,bcc=0.6", "add up to 1.1, more than 1"),
        ("mel=0.5,bcc=0.5", "leaves nothing for akiec, bkl"),
        ("mel=0.1,melanoma=0.2", "mel twice"),
        ("malignant=0.1,mel=0.05", "malignant together with mel"),
        (",".join(f"{code}=0.1" for code in HAM10000.codes), "all classes that add up to 0.7"),
    ],
)
def test_what_states_no_shares_is_told_in_one_paragraph(trained, text, told):
    with pytest.raises(UserError, match=told) as caught:
        stated_prevalence(read_bundle(trained.path), text)
    assert "\n" not in str(caught.value)
    assert "such as mel=0.02" in str(caught.value)


def test_a_class_of_which_the_run_had_no_image_cannot_be_stated(run):
    facts = json.loads(run.bundle.read_text())
    shares = [0.5, 0.5, 0, 0, 0, 0, 0]
    facts["prior"] = {"images": shares, "answers": shares, "fitted_on": "oof"}
    run.bundle.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="mel, of which the run tiny has no image"):
        stated_prevalence(read_bundle(run.path), "mel=0.1")


def test_an_older_bundle_says_how_it_gets_a_prior(run):
    facts = json.loads(run.bundle.read_text())
    del facts["prior"]
    run.bundle.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=f"Write it again .*evaluate {run.path}"):
        stated_prevalence(read_bundle(run.path), "mel=0.1")


def test_the_command_corrects_and_refuses(trained, images, tmp_path):
    def invoke(text, out):
        words = ["ensemble-predict", images, "--run", trained.path, "--out", out]
        return CliRunner().invoke(main, [*map(str, words), "--prevalence", text])

    done = invoke("malignant=0.05", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "corrected to a prevalence of malignant 0.05" in done.output
    refused = invoke("mel=2", tmp_path / "other")
    assert refused.exit_code == 2
    assert "2 for mel, which is not between 0 and 1" in refused.output
    assert not (tmp_path / "other").exists()
