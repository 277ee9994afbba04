"""The report: its schema, its words, and what it must not import."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kderm.evaluation.calibration.scaling import nested_calibration
from kderm.evaluation.decisions.operating_points import malignant_operating_point
from kderm.evaluation.decisions.points import choose_points
from kderm.evaluation.predictions import make_predictions, read_predictions, write_predictions
from kderm.evaluation.report.write import FIGURES
from kderm.labels import HAM10000


def test_evaluation_leaves_the_frameworks_alone():
    code = (
        "import sys, kderm.evaluation.report.write\n"
        "heavy = {'keras', 'torch', 'tensorflow', 'jax', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_metrics_json_follows_its_schema(full):
    found, _ = full
    assert found["n_images"] == 350
    assert found["n_groups"] == 175
    assert found["level"] == 0.95
    assert found["resamples"] == 60
    assert [fold["fold"] for fold in found["folds"]] == [0, 1, 2, 3, 4]
    assert list(found["per_class"]) == list(HAM10000.codes)
    assert np.array(found["confusion"]).shape == (7, 7)
    assert found["operating_points"]["points"][0]["name"] == "malignant_youden"
    for name in ("macro_auc", "mel_auc", "malignant_auc", "balanced_accuracy", "macro_f1"):
        entry = found["pooled"][name]
        assert entry["low"] < entry["value"] < entry["high"]
        values = [fold[name] for fold in found["folds"]]
        assert found["fold_mean"][name]["mean"] == pytest.approx(np.mean(values))
        assert found["fold_mean"][name]["sd"] == pytest.approx(np.std(values, ddof=1))


def test_the_numbers_are_scikit_learns(out_of_fold, full):
    found, _ = full
    predictions = out_of_fold()
    y, probabilities = predictions.y, predictions.probabilities
    assert found["pooled"]["macro_auc"]["value"] == pytest.approx(
        roc_auc_score(y, probabilities, multi_class="ovr")
    )
    assert found["pooled"]["mel_auc"]["value"] == pytest.approx(
        roc_auc_score(y == 4, probabilities[:, 4])
    )
    first = predictions.folds == 0
    assert found["folds"][0]["macro_auc"] == pytest.approx(
        roc_auc_score(y[first], probabilities[first], multi_class="ovr")
    )


def test_the_report_says_where_its_numbers_come_from(full):
    _, text = full
    assert "350 images of 175 groups" in text
    assert "Every group is whole within one fold" in text
    assert "60 bootstrap resamples of whole groups, not images" in text
    assert "| preset | keras_cv/x |" in text
    assert "| seconds | 12.3457 |" in text
    assert "| versions | keras 3.15 |" in text
    assert "Synthetic" not in text
    assert "held-out numbers here were measured during training, on the plain view" in text


def test_each_calibration_error_says_its_bins_and_no_event_has_two_rows(full):
    found, text = full
    assert (
        "(15 equal-width bins, those of the figure; the table below has bins of equal mass)" in text
    )
    assert "here over 15 bins of equal mass" in text
    rows = text.split("### By probability")[1].split("### Scaling")[0]
    mel = found["calibration_report"]["targets"]["mel"]["ece_mass"]["value"]
    assert mel == found["calibration_report"]["classes"]["mel"]["ece_mass"]["value"]
    assert "| class mel |" in rows
    assert "| it is malignant |" in rows
    assert "melanoma" not in rows


def test_every_figure_is_embedded(full):
    assert all(f"(figures/{name}.png)" in full[1] for name in FIGURES)


@pytest.mark.parametrize(
    ("checkpoint", "saw", "words"),
    [
        ("best", True, "optimistic.** Each fold's checkpoint was chosen by balanced accuracy on "),
        ("last", False, "did not see the held-out fold"),
        (None, None, "not known"),
    ],
)
def test_the_report_says_whether_checkpoint_choice_saw_the_scored_fold(
    report, out_of_fold, tmp_path, checkpoint, saw, words
):
    found, text = report(
        out_of_fold(n=70), tmp_path, checkpoint=checkpoint, monitor="balanced_accuracy"
    )
    assert found["checkpoint_saw_scored_fold"] is saw
    assert words in text


def test_the_same_table_gives_the_same_report_byte_for_byte(report, out_of_fold, history, tmp_path):
    predictions = out_of_fold(n=70)
    write_predictions(tmp_path / "oof.csv", predictions)
    again = read_predictions(tmp_path / "oof.csv", HAM10000)
    for name in ("a", "b"):
        report(again, tmp_path / name, histories={0: history()})
    for path in sorted((tmp_path / "a").rglob("*.*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_the_order_of_the_rows_does_not_matter(report, out_of_fold, tmp_path):
    predictions = out_of_fold(n=70)
    shuffled = make_predictions(predictions.table.sample(frac=1, random_state=0), HAM10000)
    first, _ = report(predictions, tmp_path / "a")
    second, _ = report(shuffled, tmp_path / "b")
    for name, entry in first["pooled"].items():
        assert second["pooled"][name] == pytest.approx(entry), name


def test_external_predictions_have_no_folds_and_no_curves(report, out_of_fold, external, tmp_path):
    found, text = report(external(out_of_fold(n=70).table), tmp_path, checkpoint="best")
    assert found["folds"] == []
    assert found["fold_mean"] == {}
    assert found["checkpoint_saw_scored_fold"] is None
    assert "### Folds" not in text
    assert "## Training" not in text
    assert "heckpoint" not in text
    assert "resamples of images (each is its own group)" in text


@pytest.mark.parametrize(
    ("seen", "title", "words"),
    [
        (
            0,
            "# A run: report on other images\n",
            "**Other images than the run's own.** The members",
        ),
        (3, "# A run\n", "**Not a test.** 3 of the predicted images"),
        (
            "unknown",
            "# A run\n",
            "Whether these images are new to the models that scored them is not",
        ),
    ],
)
def test_what_is_known_of_the_overlap_leads_the_data_of_other_images(
    report, out_of_fold, external, tmp_path, seen, title, words
):
    facts = {
        "images that the members were trained on": seen,
        "before prediction": "overlap: 2 of 72",
    }
    _, text = report(external(out_of_fold(n=70).table), tmp_path, facts=facts)
    assert text.startswith(title)
    first = text.split("## Data and leakage\n\n")[1].split("\n")[0]
    assert first.startswith(f"- {words}")
    assert first.endswith(" Before prediction: overlap: 2 of 72.")


def test_curves_of_an_earlier_report_do_not_stay_behind(report, out_of_fold, history, tmp_path):
    report(out_of_fold(n=70), tmp_path, histories={0: history()})
    assert (tmp_path / "figures" / "training_curves.png").exists()
    report(out_of_fold(n=70), tmp_path, histories={})
    assert not (tmp_path / "figures" / "training_curves.png").exists()


def test_a_group_in_two_folds_is_called_a_leak(report, out_of_fold, tmp_path):
    table = out_of_fold(n=70).table
    table.loc[0, "fold"] = 3
    found, text = report(make_predictions(table, HAM10000), tmp_path)
    assert found["groups_in_several_folds"] == 1
    assert "> **Leak.** 1 group with images" in text
    assert "Every group is whole" not in text


def test_synthetic_data_is_said_at_the_top(report, out_of_fold, tmp_path):
    _, text = report(out_of_fold(n=70), tmp_path, facts={"synthetic data": True})
    assert text.split("\n\n")[1].startswith("> **Synthetic data.**")
    _, text = report(out_of_fold(n=70), tmp_path, facts={"synthetic data": False})
    assert "> **Synthetic" not in text


def test_a_perfect_auc_has_a_footnote_on_what_its_interval_cannot_show(
    report, out_of_fold, tmp_path, full
):
    table = out_of_fold(n=140).table
    wrong = table["label"] != "df"
    table.loc[wrong, "p_df"], table.loc[~wrong, "p_df"] = 1e-6, 0.9
    table[HAM10000.columns] = table[HAM10000.columns].div(
        table[HAM10000.columns].sum(axis=1), axis=0
    )
    _, text = report(make_predictions(table, HAM10000), tmp_path)
    (row,) = (line for line in text.splitlines() if "1.000 (1.000 to 1.000) †" in line)
    assert row.startswith("| df")
    assert text.count("\n† Every pair") == 1
    assert "†" not in full[1]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1.000 (1.000\u00a0to\u00a01.000)\u00a0†" in page


def test_images_from_elsewhere_are_judged_by_the_frozen_threshold(
    report, out_of_fold, external, tmp_path
):
    frozen = choose_points(out_of_fold(), resamples=20)
    youden = next(point for point in frozen if point.name == "malignant_youden")
    elsewhere = external(out_of_fold(n=280, seed=1).table)
    _, text = report(elsewhere, tmp_path, frozen=frozen)
    malignant = np.isin(elsewhere.y, HAM10000.malignant_indices)
    score = elsewhere.probabilities[:, HAM10000.malignant_indices].sum(axis=1)
    caught = round(100 * np.mean(score[malignant] >= youden.value))
    said = "At the balanced threshold, frozen on out-of-fold predictions, it flags"
    assert f"{said} {caught} of 100 malignant" in text
    # Nothing of the page is a threshold fitted on these images.
    own = malignant_operating_point(elsewhere).threshold
    assert f"{own:.4f}" != f"{youden.value:.4f}"
    assert f"{own:.4f}" not in text


def test_a_melanoma_probability_that_is_too_high_is_said_in_the_first_section(
    report, out_of_fold, tmp_path
):
    honest = out_of_fold()
    raised = honest.table.copy()
    raised["p_mel"] += 0.3
    raised[HAM10000.columns] = raised[HAM10000.columns].div(
        raised[HAM10000.columns].sum(axis=1), axis=0
    )
    _, text = report(make_predictions(raised, HAM10000), tmp_path)
    mean, share = (round(100 * value) for value in (raised["p_mel"].mean(), 1 / 7))
    said = f"The probability of melanoma is too high: {mean} % on average, where {share} % are."
    assert said in text


def test_decisions_are_on_the_scale_that_the_bundle_will_have(report, out_of_fold, tmp_path):
    honest = out_of_fold()
    found, _ = report(honest, tmp_path, calibration="vector")
    expected = choose_points(nested_calibration(honest, "vector"), resamples=20)
    got = {point["name"]: point["threshold"] for point in found["operating_points"]["points"]}
    assert got == {point.name: pytest.approx(point.value) for point in expected}
