"""`compare` on the command line: what it reads, what it refuses, where it writes."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.commands.comparison import default_folder, some
from kderm.labels import HAM10000, LabelSpace

CONFIG = "data: {{dataset: {dataset}, labels: ham10000}}\nfolds: {{k: 3}}\n"


def invoke(*arguments):
    return CliRunner().invoke(main, ["compare", "--resamples", "100", *map(str, arguments)])


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Pictures take seconds, and are looked at in test_write."""
    target = "kderm.evaluation.comparison.write.plot_differences"
    monkeypatch.setattr(target, lambda path, found: None)


@pytest.fixture
def run(workplace, table):
    """Makes a run's folder with its finished folds."""

    def make(name, skill, *, folds=(0, 1, 2), dataset="ham10000", more="", **other):
        rows = table(skill, **other)
        folder = workplace / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(CONFIG.format(dataset=dataset) + more)
        for fold in folds:
            path = folder / f"fold_{fold}"
            path.mkdir()
            rows[rows["fold"] == fold].to_csv(path / "oof.csv", index=False)
            (path / "done.json").write_text("{}")
        return folder

    return make


def test_two_runs_are_compared_and_everything_is_told(run, workplace):
    run("base", 0.5)
    run("better", 4.0, seed=1)
    result = invoke("base", "better")
    assert result.exit_code == 0, result.output
    assert "120 images in 60 groups" in result.output
    assert "better against base: better in malignant AUC" in result.output
    folder = workplace / "runs" / "_comparisons" / "base_vs_better"
    assert f"Comparison: {folder.relative_to(workplace)}/compare.md" in result.output
    found = json.loads((folder / "comparison.json").read_text())
    assert (found["runs"], found["resamples"]) == (["base", "better"], 100)


def test_a_run_that_is_not_finished_is_compared_on_what_it_has(run):
    run("base", 1.0)
    run("begun", 2.0, folds=(1,), seed=1)
    result = invoke("base", "begun")
    assert result.exit_code == 0, result.output
    assert "40 images in 20 groups" in result.output
    assert "begun: 1 of 3 folds are finished; only these count." in result.output
    assert "80 images of base left out" in result.output


def test_a_fold_that_is_still_training_does_not_count(run):
    (run("base", 1.0) / "fold_2" / "done.json").unlink()
    run("other", 1.0, seed=1)
    assert "80 images in 40 groups" in invoke("base", "other").output


def test_a_run_with_its_joined_table_alone_is_enough(run, table):
    folder = run("base", 1.0, folds=())
    table(1.0).to_csv(folder / "oof.csv", index=False)
    run("other", 2.0, seed=1)
    result = invoke("base", "other")
    assert result.exit_code == 0, result.output
    assert "120 images in 60 groups" in result.output


def test_the_config_of_an_older_version_is_no_hindrance(run):
    run("old", 1.0, more="loss: {class_weights: sqrt}\n")
    run("new", 1.0, seed=1)
    assert invoke("old", "new").exit_code == 0


def test_tables_are_compared_by_their_paths_and_go_where_out_says(run, table, workplace):
    run("base", 1.0)
    rows = table(2.0, seed=1, folds=None).drop(columns="group_id")
    rows.loc[0, "label"] = ""
    rows[HAM10000.columns] = rows[HAM10000.columns].astype(object)
    rows.loc[1, HAM10000.columns] = ""
    rows["p_malignant"], rows["error"] = 0.5, ""
    rows.to_csv(workplace / "predictions.csv", index=False)
    result = invoke("base", workplace / "predictions.csv", "--out", "here")
    assert result.exit_code == 0, result.output
    name = workplace.name
    assert f"{name}: 2 images without a label or an answer left out." in result.output
    assert f"If {name} learnt from these images" in result.output.replace("\n", " ")
    # Both images of the first lesion are gone.
    assert "118 images in 59 groups" in result.output
    assert (workplace / "here" / "compare.md").is_file()
    assert not (workplace / "runs" / "_comparisons").exists()


def test_lesions_and_patients_of_tables_make_their_groups(table, workplace):
    for name, seed in (("a", 0), ("b", 1)):
        rows = table(1.0, seed=seed, folds=None).rename(columns={"group_id": "lesion_id"})
        rows["patient_id"] = ["P", "", "P", *[""] * 117]
        rows.to_csv(workplace / f"{name}.csv", index=False)
    result = invoke(workplace / "a.csv", workplace / "b.csv")
    assert result.exit_code == 0, result.output
    assert "120 images in 59 groups" in result.output
    assert "counts for independent" not in result.output


def test_a_folder_of_predictions_is_found_and_takes_the_classes_of_its_run(run, table, workplace):
    folder = run("base", 1.0, more="")
    (folder / "config.yaml").write_text(
        "data: {dataset: csv, labels: custom, classes: [a, b], malignant: [b]}\nfolds: {k: 3}\n"
    )
    place = folder / "predictions" / "hospital"
    place.mkdir(parents=True)
    rows = pd.DataFrame(
        {"image_id": ["1", "2", "3"], "label": ["a", "b", "a"], "p_a": [0.2, 0.4, 0.9]}
    )
    rows["p_b"] = 1 - rows["p_a"]
    rows.to_csv(place / "predictions.csv", index=False)
    rows.assign(p_a=0.5, p_b=0.5).to_csv(workplace / "other.csv", index=False)
    result = invoke(place, workplace / "other.csv")
    assert result.exit_code == 0, result.output
    found = json.loads(
        (workplace / "runs/_comparisons/hospital_vs_other/comparison.json").read_text()
    )
    assert (found["malignant"], list(found["classes"])) == (["b"], ["a", "b"])
    assert "each image counts for independent" in result.output


def test_a_table_that_was_corrected_to_a_prevalence_is_compared_and_called_that(table, workplace):
    for name, seed in (("plain", 0), ("corrected", 1)):
        rows = table(2.0, seed=seed, folds=None).assign(p_malignant=0.5)
        if name == "corrected":
            rows["p_malignant_uncorrected"] = 0.7
        rows.to_csv(workplace / f"{name}.csv", index=False)
    result = invoke(workplace / "plain.csv", workplace / "corrected.csv")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "corrected: Its answers are corrected to a stated prevalence" in words
    assert "plain: Its answers" not in words
    folder = workplace / "runs/_comparisons/plain_vs_corrected"
    assert list(json.loads((folder / "comparison.json").read_text())["classes"]) == list(
        HAM10000.codes
    )


@pytest.mark.parametrize("codes", [("nevus", "malignant"), ("nevus", "keratosis", "malignant")])
def test_a_class_called_malignant_is_compared_like_any_other(table, workplace, codes):
    labels = LabelSpace("custom", codes, codes)
    for name, seed in (("a", 0), ("b", 1)):
        table(2.0, seed=seed, labels=labels).to_csv(workplace / f"{name}.csv", index=False)
    result = invoke(workplace / "a.csv", workplace / "b.csv")
    assert result.exit_code == 0, result.output
    found = json.loads((workplace / "runs/_comparisons/a_vs_b/comparison.json").read_text())
    assert (tuple(found["classes"]), found["malignant"]) == (codes, ["malignant"])


def test_the_sum_over_malignant_classes_is_no_class(table, workplace):
    labels = LabelSpace("custom", ("mole", "melanoma", "bcc"), ("", "", ""))
    for name, seed in (("a", 0), ("b", 1)):
        rows = table(2.0, seed=seed, labels=labels)
        rows["p_malignant"] = rows["p_melanoma"] + rows["p_bcc"]
        rows = rows.astype(object)
        rows.loc[0, rows.columns != "image_id"] = ""  # an image that could not be read
        rows.to_csv(workplace / f"{name}.csv", index=False)
    result = invoke(workplace / "a.csv", workplace / "b.csv")
    assert result.exit_code == 0, result.output
    found = json.loads((workplace / "runs/_comparisons/a_vs_b/comparison.json").read_text())
    assert tuple(found["classes"]) == labels.codes


def test_two_runs_of_one_name_are_told_apart(run, workplace, table):
    run("base", 1.0)
    other = workplace / "elsewhere" / "base"
    other.mkdir(parents=True)
    table(1.0, seed=1).to_csv(other / "oof.csv", index=False)
    result = invoke("base", other / "oof.csv")
    assert result.exit_code == 0, result.output
    assert f"base_2: This is the one given as {other / 'oof.csv'}." in result.output


def test_drawn_images_are_called_that(run):
    run("base", 1.0, dataset="demo")
    run("other", 1.0, dataset="demo", seed=1)
    assert "base, other: SYNTHETIC DATA" in invoke("base", "other").output


def refusal(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.count("Traceback") == 0
    return result.output


def test_one_run_alone_is_refused(run):
    run("base", 1.0)
    assert "needs two runs or more" in refusal("base")


def test_the_same_run_twice_is_refused(run):
    folder = run("base", 1.0)
    assert "runs that differ" in refusal("base", folder)


def test_a_name_that_is_no_run_is_answered_with_the_nearest_one(run):
    run("base", 1.0)
    assert "Did you mean 'base'?" in refusal("base", "bass")


def test_known_runs_are_named_in_order_where_none_is_near(run):
    for name in ("second", "first", "third"):
        run(name, 1.0)
    assert "Known: first, second, third." in refusal("first", "quux")


def test_a_run_with_nothing_finished_is_refused(run):
    run("base", 1.0)
    run("new", 1.0, folds=())
    assert "at least one finished fold of new" in refusal("base", "new")


def test_a_folder_without_a_config_is_refused(run, workplace):
    run("base", 1.0)
    (workplace / "runs" / "empty").mkdir()
    told = refusal("base", "empty")
    assert "Expected the folder of a run, with its config.yaml" in told
    assert "(config.yaml: No such file or directory)" in told
    assert "Errno" not in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image_id,label\n1,nv\n", "a probability column p_<code> for each class"),
        ("image_id,p_a,p_b\n1,0.5,0.5\n", "does not say what the images show"),
        ("image_id,label,p_a,p_b\n1,,0.5,0.5\n", "none among 1 row"),
        ("image_id,label,p_a,p_b\n1,a,0.5,0.9\n", "must sum to 1"),
        ("", "Expected a table of predictions (CSV)"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused_by_name(run, workplace, content, words):
    run("base", 1.0)
    (workplace / "bad.csv").write_text(content)
    output = refusal("base", workplace / "bad.csv")
    assert words in output
    assert "bad.csv" in output


def test_labels_that_contradict_are_refused(run, table, workplace):
    run("base", 1.0)
    rows = table(1.0)
    rows["label"] = "nv"
    rows.to_csv(workplace / "wrong.csv", index=False)
    assert "with two labels" in refusal("base", workplace / "wrong.csv")


def test_many_names_give_a_short_folder_that_differs_by_its_names():
    names = [f"ablation_{j}" for j in range(20)]
    assert default_folder(names[:2]).name == "ablation_0_vs_ablation_1"
    assert len(default_folder(names).name) < 100
    assert default_folder(names) != default_folder([*names[:-1], "ablation_x"])
    assert default_folder(["a/b", "c d"]).name == "a_b_vs_c_d"


def test_a_long_list_of_names_is_cut():
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcde")) == "a, b, c and 2 more"
