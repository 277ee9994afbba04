"""What the command line tells to do next: a command that can be copied and works."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kderm.cli import main
from kderm.commands.asked import refuse_lost_images
from kderm.config.reading import load_config
from kderm.data.datasets import DATASETS, recognised
from kderm.data.datasets.demo import write_demo
from kderm.run_dir import RunDir

TINY = ["data.demo_images=70", "data.demo_size=32", "folds.k=2", "image.size=32"]
FRAMES = ["folds.k=2", "image.size=32"]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told_command(output):
    """The words behind "python run.py" in what was printed."""
    return shlex.split(output[output.rindex("python run.py") :].splitlines()[0])[2:]


def draw(*names):
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)


@pytest.fixture
def prepared(workplace):
    """The demo prepared as the run `demo`, with the config that training would freeze."""
    assert invoke("prepare", *TINY).exit_code == 0
    run = RunDir(workplace / "runs" / "demo")
    run.config.write_text(load_config(None, TINY).to_yaml())
    return run


def test_the_demo_and_a_data_set_of_ones_own_do_not_meet_in_one_run(workplace):
    assert invoke("prepare", *TINY).exit_code == 0
    (workplace / "runs" / "demo" / "fold_0").mkdir()
    (workplace / "runs" / "demo" / "fold_0" / "done.json").write_text("{}")  # it has begun
    (workplace / "runs" / "demo" / "config.yaml").write_text(load_config(None, TINY).to_yaml())
    write_demo(workplace / "my photos", 70, seed=3, height=40)
    result = invoke("prepare", "data.dataset=ham10000", "data.root=my photos", *FRAMES)
    assert result.exit_code == 0, result.output
    assert (workplace / "runs" / "ham10000_my_photos" / "folds.csv").is_file()
    assert "run.py cv data.dataset=ham10000 'data.root=my photos'" in result.output


@pytest.mark.parametrize("verb", ["audit", "prepare"])
def test_a_folder_in_place_of_options_is_answered_with_a_command_that_works(workplace, verb):
    draw(*(f"my photos/{name}/{i}.png" for name in ("cat photos", "dog") for i in range(4)))
    refused = invoke(verb, "my photos")
    assert refused.exit_code == 2
    assert "which is a folder" in refused.output
    command = told_command(refused.output)
    assert command[0] == verb
    done = invoke(*command, *FRAMES)
    assert done.exit_code == 0, done.output
    assert "8" in done.output


def test_a_table_a_config_and_a_run_in_place_of_options_are_answered_too(prepared):
    Path("images.csv").write_text("image,label\n")
    Path("mine.yaml").write_text("seed: 1\n")
    for word, words in {
        "images.csv": "prepare --run x data.dataset=table data.table=images.csv",
        "mine.yaml": "prepare --run x --config mine.yaml",
        "demo": "prepare --config runs/demo/config.yaml --run demo",
    }.items():
        refused = invoke("prepare", "--run", "x", word)
        assert refused.exit_code == 2
        assert f"python run.py {words}" in refused.output
    for verb in ("audit", "inspect"):
        assert f"{verb} --config runs/demo/config.yaml\n" in invoke(verb, "demo").output
    assert "section.key=value" in invoke("audit", "nothing").output


def test_the_layout_of_a_folder_is_recognised_by_names(workplace):
    layouts = {
        "ham10000": ["HAM10000_metadata"],
        "isic2018": ["a/ISIC2018_Task3_Training_GroundTruth.csv"],
        "isic2019": ["ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"],
        "isic2020": ["ISIC_2020_Training_GroundTruth_v2.csv"],
        "isic2024": ["train-metadata.csv"],
        "pad_ufes20": ["metadata.csv", "imgs_part_1/x.png"],
        "isic_archive": ["metadata.csv", "x.jpg"],
        "table": ["list.csv", "x.jpg"],
        "class_folders": ["nv/x.jpg"],
    }
    assert set(layouts) == set(DATASETS) - {"demo"}
    for name, files in layouts.items():
        for file in files:
            (workplace / name / file).parent.mkdir(parents=True, exist_ok=True)
            (workplace / name / file).touch()
        assert recognised(workplace / name) == name


@pytest.mark.parametrize("verb", ["explain", "select", "evaluate"])
def test_a_run_that_is_not_finished_is_told_with_the_command_that_finishes_it(prepared, verb):
    refused = invoke(verb, "demo")
    assert refused.exit_code == 2
    command = "cv --config runs/demo/config.yaml --run demo"
    assert f"python run.py {command}" in refused.output
    again = load_config(Path("runs/demo/config.yaml"))
    assert again == load_config(None, TINY)


def test_a_run_that_is_only_prepared_is_told_as_such(workplace):
    assert invoke("prepare", *TINY).exit_code == 0
    for verb in ("explain", "select"):
        refused = invoke(verb, "demo")
        assert refused.exit_code == 2
        assert "Train it with the command cv" in refused.output


def test_a_run_whose_images_are_gone_is_told_with_the_command_that_decodes_them(prepared):
    prepared.oof.write_text("image_id\n")
    prepared.bundle.write_text("{}")
    Path("runs/_data").rename("elsewhere")
    refuse_lost_images(prepared)  # nothing, as the decoded ones are there
    Path("runs/_stores").rename("stores")
    for verb in ("explain", "select"):
        refused = invoke(verb, "demo")
        assert refused.exit_code == 2
        assert "are gone" in refused.output
        assert told_command(refused.output) == shlex.split(
            "prepare --config runs/demo/config.yaml --run demo"
        )
    done = invoke(*told_command(refused.output))
    assert done.exit_code == 0, done.output
    assert list(Path("runs/_stores").iterdir())


def test_a_run_that_lies_elsewhere_is_named_with_its_place(prepared):
    Path("runs/demo").rename("moved here")
    refused = invoke("select", "moved here")
    assert refused.exit_code == 2
    place = shlex.quote(str(Path.cwd()))
    command = "cv --config 'moved here/config.yaml' --run 'moved here'"
    assert f"KDERM_RUNS={place} python run.py {command}" in refused.output


def test_without_lesion_ids_no_word_is_said_of_leakage_avoided(workplace):
    draw(*(f"photos/{name}/{i}.png" for name in ("mel", "nv") for i in range(4)))
    own = ["data.dataset=class_folders", "data.root=photos", *FRAMES]
    result = invoke("prepare", *own)
    assert result.exit_code == 0, result.output
    assert result.output.count("cannot be ruled out") == 1
    empty = "warning: 5 of the 7 classes of data.labels=ham10000 have no image (akiec, bcc, bkl, df"
    assert empty in result.output
    assert "data.labels=custom" in result.output
    assert "image-level split would have put" not in result.output
    Path("pairs.csv").write_text("image_id_1,image_id_2\nmel/0,mel/1\n")
    Path("cv_folds").rename("old_folds")
    listed = invoke("prepare", "data.duplicates=pairs.csv", *own)
    assert listed.exit_code == 0, listed.output
    assert re.search(r"split would have put \d images", listed.output)
    assert "For 8 images without lesion and patient id" in listed.output


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("data.table=nosuch.csv", "data.table=nosuch.csv"),
        ("data.duplicates=nosuch.csv", "nosuch.csv"),
        ("data.pseudo_labels=nosuch.csv", "data.pseudo_labels=nosuch.csv"),
        ("folds.file=nosuch.csv", "folds.file"),
        ("model.weights=nosuch.weights.h5", "nosuch.weights.h5"),
    ],
)
def test_a_file_that_is_not_there_is_told_before_images_are_decoded(workplace, option, words):
    draw(*(f"photos/{name}/{i}.png" for name in ("mel", "nv") for i in range(4)))
    own = ["data.dataset=class_folders", "data.root=photos", *FRAMES]
    preset = "model.preset=keras_cv/efficientnetv2_tiny"
    refused = invoke("cv", *own, preset, "model.weights=none", option)
    assert refused.exit_code == 2, refused.output
    assert words in refused.output
    assert not Path("runs/_stores").exists()
