import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.config.reading import DEMO, load_config
from kderm.config.schema import Config
from kderm.data.datasets.demo import write_demo
from kderm.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[1]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_overrides):
    """A whole `cv` on the tiny demo: (its folder, its output)."""
    workplace = tmp_path_factory.mktemp("finished")
    command = [sys.executable, str(REPOSITORY / "run.py"), "cv", "--folds", "3", *tiny_overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workplace)
    assert done.returncode == 0, done.stderr
    return workplace, done.stdout


def test_help_imports_neither_keras_nor_torch_nor_pandas():
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom kderm.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'keras', 'torch', 'pandas', 'numpy', 'tensorflow', 'pydantic', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_command_has_at_most_eight_options():
    for command in main.commands.values():
        assert len([p for p in command.params if p.param_type_name == "option"]) <= 8


def test_cv_says_that_the_demo_is_synthetic_and_prints_the_next_command(finished):
    workplace, output = finished
    assert "SYNTHETIC DATA" in output
    assert "image-level split would have put" in output
    run = RunDir(workplace / "runs" / "demo")
    report = run.report.read_text()
    assert "SYNTHETIC" in report
    assert json.loads(run.metrics.read_text())["n_images"] == 105
    assert output.strip().splitlines()[-1].startswith("Next: python run.py ensemble-predict ")


def test_the_printed_next_command_works_and_reports_on_unseen_images(finished):
    workplace, output = finished
    command = output.strip().splitlines()[-1].removeprefix("Next: python run.py ").split()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *command],
        capture_output=True,
        text=True,
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    written = list((workplace / "runs" / "demo" / "predictions").glob("*/predictions.csv"))
    assert len(written) == 1
    table = pd.read_csv(written[0])
    assert len(table) == 105
    assert table["error"].isna().all()
    assert (written[0].parent / "report.md").exists()
    warnings = [line for line in done.stdout.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "SYNTHETIC" in warnings[0]
    assert "NOT A TEST" not in (written[0].parent / "report.md").read_text()


def test_a_submission_to_a_challenge_is_written_beside_the_predictions(finished, monkeypatch):
    workplace, _ = finished
    monkeypatch.chdir(workplace)
    unseen = next((workplace / "runs" / "_data").glob("demo-unseen*")) / "HAM10000_metadata.csv"
    result = invoke("ensemble-predict", unseen, "--challenge", "2018", "--out", "submitted")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(workplace / "submitted" / "submission_isic2018.csv")
    assert list(table) == ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    assert len(table) == 105
    refused = invoke("ensemble-predict", unseen, "--challenge", "2019", "--out", "other")
    assert refused.exit_code == 2
    assert "no class for AK" in refused.output
    assert not (workplace / "other").exists()


def test_a_prediction_without_one_readable_image_ends_as_a_mistake_with_its_table(
    finished, monkeypatch, tmp_path
):
    workplace, _ = finished
    monkeypatch.chdir(workplace)
    (tmp_path / "a.jpg").write_text("no image")
    (tmp_path / "b.jpg").write_text("")
    result = invoke("ensemble-predict", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Received: 2, and not one can" in result.output
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")["error"].dropna()) == 2


def test_a_table_of_which_no_image_is_there_is_told_as_such(workplace):
    Path("table.csv").write_text("image_id,dx\nnosuch1,nv\nnosuch2,quux\n")
    result = invoke("prepare", "data.dataset=table", "data.table=table.csv", "--run", "none")
    assert result.exit_code == 2
    assert "not one of them was found" in result.output
    assert "'quux' in row 3" in result.output


def test_without_a_name_the_newest_run_is_taken_and_named(finished, monkeypatch):
    workplace, _ = finished
    monkeypatch.chdir(workplace)
    result = invoke("evaluate")
    assert result.exit_code == 0, result.output
    assert "run demo (the newest" in result.output


def test_what_else_is_known_of_the_images_makes_subgroups(finished, monkeypatch, tmp_path):
    workplace, _ = finished
    shutil.copytree(workplace / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    run = RunDir(tmp_path / "runs" / "demo")
    about = pd.read_csv(run.oof)[["image_id"]].assign(fitzpatrick=["II", "IV", ""] * 35)
    about.to_csv("about.csv", index=False)
    result = invoke("evaluate", "demo", "--about", "about.csv")
    assert result.exit_code == 0, result.output
    subgroups = json.loads(run.metrics.read_text())["subgroups"]
    tone = next(each for each in subgroups["attributes"] if each["name"] == "skin_tone")
    assert [level["images"] for level in tone["levels"] if level["recorded"]] == [35, 35]
    assert invoke("evaluate", "demo").exit_code == 0
    assert "Skin tone" in run.report.read_text()
    for text in ("image,skin_tone\na,1\n", "image_id,colour\na,1\n"):
        Path("wrong.csv").write_text(text)
        refused = invoke("evaluate", "demo", "--about", "wrong.csv")
        assert refused.exit_code == 2, refused.output
        assert "image_id" in refused.output


def test_a_missing_file_is_told_once_and_in_words(finished, monkeypatch):
    monkeypatch.chdir(finished[0])
    about = invoke("evaluate", "demo", "--about", "missing.csv").output
    assert "Received: missing.csv (No such file or directory)." in about
    external = invoke("evaluate", "demo", "--external", "missing").output
    assert "Expected labelled images: a folder of class folders, a CSV with labels" in external
    assert not (RunDir(Path("runs/demo")).external / "missing").exists()


def test_a_run_without_its_models_still_gives_its_report(finished, tmp_path, monkeypatch):
    workplace, _ = finished
    shutil.copytree(workplace / "runs" / "demo", tmp_path / "runs" / "copied")
    for path in (tmp_path / "runs" / "copied").glob("fold_*/model.keras"):
        path.unlink()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "copied" / "report.md").unlink()
    result = invoke("evaluate", "copied")
    assert result.exit_code == 0, result.output
    assert "have no model.keras" in result.output
    assert (tmp_path / "runs" / "copied" / "report.md").exists()


def test_the_report_admits_that_early_stopping_saw_the_held_out_fold(
    finished, tmp_path, monkeypatch
):
    workplace, _ = finished
    shutil.copytree(workplace / "runs" / "demo", tmp_path / "runs" / "stopped")
    run = RunDir(tmp_path / "runs" / "stopped")
    text = run.config.read_text().replace("checkpoint: best", "checkpoint: last")
    run.config.write_text(text.replace("patience: null", "patience: 2"))
    monkeypatch.chdir(tmp_path)
    assert invoke("evaluate", "stopped").exit_code == 0
    assert json.loads(run.metrics.read_text())["checkpoint_saw_scored_fold"] is True
    assert "early stopping by" in run.report.read_text()


def test_cv_again_trains_nothing_and_evaluate_rebuilds_the_same_numbers(finished, monkeypatch):
    workplace, _ = finished
    monkeypatch.chdir(workplace)
    run = RunDir(workplace / "runs" / "demo")
    before = run.metrics.read_text()
    run.metrics.unlink()
    run.bundle.unlink()
    result = invoke("evaluate", "demo")
    assert result.exit_code == 0, result.output
    assert run.metrics.read_text() == before
    assert run.bundle.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["cv", "--config", "missing.yaml"], "missing.yaml"),
        (["cv", "train.epoch=3"], "train.epochs"),
        (["cv", "--folds", "1"], "folds.k"),
        (["cv", "model.preset=keras_cv/efficientnetv2_tinyy"], "efficientnetv2_tiny"),
        (["cv", "data.dataset=hamm10000", "data.root=."], "ham10000"),
        (["cv", "data.dataset=ham10000"], "data.root"),
        (["cv", "data.dataset=ham100"], "ham10000"),
        (["cv", "data.dataset=ham10000", "data.root=nowhere"], "nowhere"),
        (["cv", "--run", "../out"], "folder name"),
        (["evaluate", "nothing"], "nothing"),
        (["ensemble-predict", "images"], "Train one first"),
        (["weights", "list", "zzz"], "zzz"),
        (["weights", "fetch", "keras_cv/efficientnet_b99"], "Did you mean"),
        (["prepare", "data.labels=ham1000"], "ham10000"),
        (["prepare", "data.labels=custom"], "data.classes"),
        (["compare", "a", "b"], "there is no run in runs/ yet"),
        (["compare", "some/nope.csv", "b"], "some/nope.csv, which does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_paragraph_with_exit_code_2(workplace, arguments, expected):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not list(workplace.rglob("ensemble.json"))


def test_an_unknown_backend_is_refused_before_anything_is_imported(workplace, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "mxnet")
    result = invoke("cv")
    assert result.exit_code == 2
    assert "KERAS_BACKEND must be one of torch, jax, tensorflow" in result.output


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["prepare"], "Wait for it, or choose another name with --run NAME. At work there: cv, pr"),
        (["evaluate", "demo"], "Wait for it. At work there: cv, process"),
    ],
)
def test_a_run_that_another_command_is_writing_is_left_alone(workplace, words, advice):
    import fcntl

    lock = workplace / "runs" / "demo" / ".lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w+") as handle:
        handle.write("cv, process 123")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = invoke(*words)
        assert lock.read_text() == "cv, process 123"
    assert result.exit_code == 2
    assert "Another command is writing the run 'demo'" in result.output
    assert advice in result.output


def test_a_command_that_is_refused_leaves_no_empty_run(workplace):
    for words in (["cv", "data.dataset=ham1000"], ["prepare", "data.dataset=table"]):
        assert invoke(*words).exit_code == 2
    assert list(workplace.iterdir()) == []


def test_prepare_prints_the_class_table_and_the_leakage(workplace):
    result = invoke("prepare", "data.demo_images=105", "data.demo_size=32", "folds.k=3")
    assert result.exit_code == 0, result.output
    assert "fold 2" in result.output
    assert "image-level split would have put" in result.output
    assert list((workplace / "cv_folds").glob("demo105*_k3_seed42.csv"))


def test_the_demo_is_the_same_for_every_seed_of_a_run(workplace):
    for seed in (42, 7):
        tiny = ["data.demo_images=70", "data.demo_size=32", "folds.k=2", f"seed={seed}"]
        assert invoke("prepare", "--run", f"seed{seed}", *tiny).exit_code == 0
    assert [path.name for path in Path("runs/_data").iterdir()] == ["demo-70x32-seed42"]
    assert [path.name for path in Path("cv_folds").iterdir()] == ["demo70x32-seed42_k2_seed42.csv"]


def test_a_run_that_is_not_finished_predicts_nothing_and_says_how_to_finish_it(workplace):
    run = RunDir(Path("runs/demo"))
    run.path.mkdir(parents=True)
    run.config.write_text(Config().to_yaml())
    predict, score = ("ensemble-predict", "images", "--run"), ("evaluate", "--external", "images")
    for words in (predict, score):
        result = invoke(*words, "demo")
        assert result.exit_code == 2
        assert "Expected a finished run. Received: 'demo', of whose folds" in result.output
        assert "Finish it with: python run.py cv" in result.output


def test_a_place_that_cannot_be_written_is_told_in_one_paragraph(workplace, monkeypatch):
    monkeypatch.setenv("KDERM_RUNS", "/proc/nowhere")
    result = invoke("prepare")
    assert result.exit_code == 2
    assert "refused a file operation" in result.output


def test_doctor_names_the_backend_and_the_device(workplace):
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert "torch" in result.output
    assert "cpu" in result.output.lower() or "nvidia" in result.output.lower()


def test_audit_and_inspect_look_at_the_demo_and_make_no_folds(workplace):
    for command, written in (("audit", "pairs.csv"), ("inspect", "index.html")):
        result = invoke(command, "data.demo_images=70", "data.demo_size=40", "image.size=32")
        assert result.exit_code == 0, result.output
        assert (workplace / "runs" / "demo" / command / written).is_file()
    assert not (workplace / "cv_folds").exists()


def test_images_from_elsewhere_are_scored_without_those_of_the_run(finished, monkeypatch):
    workplace, _ = finished
    monkeypatch.chdir(workplace)
    run = RunDir(workplace / "runs" / "demo")
    own = pd.read_csv(run.manifest).iloc[0]
    unseen = next((workplace / "runs" / "_data").glob("demo-unseen*"))
    table = pd.read_csv(unseen / "HAM10000_metadata.csv").head(12)
    for row in table.itertuples():
        (workplace / "elsewhere" / row.dx).mkdir(parents=True, exist_ok=True)
        shutil.copy(next(unseen.rglob(f"{row.image_id}.jpg")), workplace / "elsewhere" / row.dx)
    shutil.copy(own["path"], workplace / "elsewhere" / own["label"] / "renamed.jpg")
    result = invoke("evaluate", "demo", "--external", "elsewhere")
    assert result.exit_code == 0, result.output
    scored = pd.read_csv(run.external / "elsewhere" / "predictions.csv")
    assert len(scored) == 12
    assert "renamed" not in set(scored["image_id"])
    again = invoke("evaluate", "demo", "--external", "elsewhere", "--overlap", "keep")
    assert again.exit_code == 0, again.output
    assert len(pd.read_csv(run.external / "elsewhere_with_overlap" / "predictions.csv")) == 13
    assert len(pd.read_csv(run.external / "elsewhere" / "predictions.csv")) == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "--download", "isic2091"], "isic2019"),
        (["prepare", "--into", "somewhere"], "--download NAME"),
        (["prepare", "--download", "isic2019", "train.epochs=3"], "--download NAME"),
        (["cv", "--unlabelled", "nowhere"], "nowhere"),
        (["evaluate", "--overlap", "keep"], "--external"),
        (["evaluate", "--external", "nowhere"], "no finished run"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(workplace, arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output
    assert list(workplace.iterdir()) == []


def test_a_data_set_of_ones_own_gets_the_defaults_and_not_the_demos(workplace):
    (workplace / "images" / "nv").mkdir(parents=True)
    own = ["data.dataset=class_folders", "data.root=images"]
    assert load_config(None, own).image.size == Config().image.size
    assert load_config(None, own).model == Config().model
    assert load_config(None, ["data.demo_images=105"]).image.size == DEMO["image"]["size"]


def test_what_is_found_in_two_data_sets_does_not_share_a_folder(workplace):
    for name in ("one", "two"):
        write_demo(workplace / name, 70, seed=3, height=40)
        own = ["data.dataset=ham10000", f"data.root={name}", "image.size=32"]
        result = invoke("audit", *own)
        assert result.exit_code == 0, result.output
    written = sorted(workplace.glob("runs/_data_sets/*/audit/pairs.csv"))
    assert [path.parts[-3] for path in written] == ["ham10000_one", "ham10000_two"]


def test_prepare_refuses_what_cv_would_refuse(workplace):
    result = invoke("prepare", "balance.by=[sampler, repeat]", "balance.repeat={mel: 2}")
    assert result.exit_code == 2
    assert "they cancel" in result.output
    assert list(workplace.glob("**/*.csv")) == []


def test_a_table_needs_no_root_where_its_images_lie_beside_it(workplace):
    write_demo(workplace / "demo", 70, seed=3, height=40)
    table = workplace / "demo" / "HAM10000_metadata.csv"
    own = ["data.dataset=table", f"data.table={table}", "image.size=32", "folds.k=2"]
    result = invoke("prepare", "--run", "mine", *own)
    assert result.exit_code == 0, result.output
    assert "70 images" in result.output
