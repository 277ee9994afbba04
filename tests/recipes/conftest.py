"""Small data sets in the layouts of their publishers, and recipes run on them once each."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from kderm.cli import main
from kderm.config.reading import load_config
from kderm.data.datasets.demo import write_demo
from kderm.data.datasets.demo_drawing import draw_lesion, draw_photo, render
from kderm.data.prepare import prepare
from kderm.run_dir import RunDir
from kderm.training.fold import new_task

CONFIGS = Path(__file__).parents[2] / "configs"
# What makes any recipe run in seconds. The network is tiny, everything else stays as it is told.
TINY = [
    "folds.k=2",
    "folds.file=null",
    "image.size=32",
    "image.stored_height=null",
    "model.weights=preset",
    "train.epochs=2",
    "train.batch_size=16",
    "predict.batch_size=32",
]
SITES = ("head/neck", "torso", "lower extremity", "")


def draw(path: Path, look: str, lesion: int, view: int = 0) -> None:
    """Write a picture of 40 px height of a lesion that looks like HAM10000's class `look`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_lesion(np.random.default_rng([1, lesion]), look)
    photo = draw_photo(np.random.default_rng([2, lesion, view]))
    Image.fromarray(render(drawn, photo, 40)).save(path, quality=92)


def write(path: Path, header: str, rows: list[list[object]]) -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def one_hot(chosen: str, codes: list[str]) -> list[str]:
    """The cells of an ISIC ground truth."""
    return ["1.0" if code == chosen else "0.0" for code in codes]


@pytest.fixture(scope="session")
def ham10000(tmp_path_factory):
    """84 images in Kaggle's layout of HAM10000."""
    root = tmp_path_factory.mktemp("ham10000") / "data"
    write_demo(root, 84, height=40)
    return root


@pytest.fixture(scope="session")
def isic2018(tmp_path_factory):
    """The three parts of ISIC 2018 Task 3 as their archives unpack; lesions have two images."""
    root = tmp_path_factory.mktemp("isic2018")
    codes = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    groupings = []
    for part, images in (("Training", 56), ("Validation", 7), ("Test", 7)):
        stem, rows = f"ISIC2018_Task3_{part}", []
        for i in range(images):
            code, lesion = codes[i // 2 % 7], i // 2
            name = f"ISIC_00{len(part)}{i:04d}"
            draw(root / f"{stem}_Input" / f"{name}.jpg", code.lower(), lesion, i % 2)
            rows.append([name, *one_hot(code, codes)])
            if part == "Training":
                groupings.append([name, f"HAM_{lesion:07d}", "histopathology"])
        header = f"image,{','.join(codes)}"
        write(root / f"{stem}_GroundTruth" / f"{stem}_GroundTruth.csv", header, rows)
    header = "image,lesion_id,diagnosis_confirm_type"
    write(root / "ISIC2018_Task3_Training_LesionGroupings.csv", header, groupings)
    return root


@pytest.fixture(scope="session")
def isic2019(tmp_path_factory):
    """ISIC 2019: eight classes that occur and one that does not, gaps in the metadata."""
    root = tmp_path_factory.mktemp("isic2019")
    codes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    truth, metadata = [], []
    for i in range(64):
        code, lesion = codes[i // 2 % 8], 100 + i // 2
        look = {"AK": "akiec", "SCC": "akiec"}.get(code, code.lower())
        name = f"ISIC_01{i:05d}" + ("_downsampled" if i % 8 == 7 else "")
        draw(root / "ISIC_2019_Training_Input" / f"{name}.jpg", look, lesion, i % 2)
        truth.append([name, *one_hot(code, codes)])
        group = "" if i % 8 == 7 else f"BCN_{lesion:07d}"
        age, sex = ("" if i % 5 == 0 else 5.0 * (i % 18)), ("female", "male", "")[i % 3]
        metadata.append([name, age, SITES[i % 4], group, sex])
    write(root / "ISIC_2019_Training_GroundTruth.csv", f"image,{','.join(codes)}", truth)
    header = "image,age_approx,anatom_site_general,lesion_id,sex"
    write(root / "ISIC_2019_Training_Metadata.csv", header, metadata)
    return root


@pytest.fixture(scope="session")
def isic2020(tmp_path_factory):
    """ISIC 2020: 16 patients of four images, one a melanoma; a 17th of one image, 2019's first."""
    root = tmp_path_factory.mktemp("isic2020")
    diagnoses = {
        "melanoma": "mel",
        "nevus": "nv",
        "unknown": "nv",
        "seborrheic keratosis": "bkl",
    }
    rows = []
    for i in range(65):
        patient = i // 4
        diagnosis = list(diagnoses)[(i + patient) % 4]
        name = f"ISIC_02{i:05d}"
        draw(root / "train" / f"{name}.jpg", diagnoses[diagnosis], 100 if i == 64 else 200 + i)
        target = int(diagnosis == "melanoma")
        kind = "malignant" if target else "benign"
        about = ["male" if patient % 2 else "female", 40 + patient, SITES[i % 4]]
        rows.append([name, f"IP_{patient:07d}", f"IL_{i:07d}", *about, diagnosis, kind, target])
    header = (
        "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
        "benign_malignant,target"
    )
    write(root / "ISIC_2020_Training_GroundTruth_v2.csv", header, rows)
    pairs = [["ISIC_0200000", "ISIC_0200002"]]
    write(root / "ISIC_2020_Training_Duplicates.csv", "image_name_1,image_name_2", pairs)
    return root


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory, ham10000):
    """Fourteen images of unseen lesions, a folder a class, and one that HAM10000 has too."""
    root = tmp_path_factory.mktemp("class_folders")
    for i, code in enumerate(["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"] * 2):
        draw(root / "test" / code / f"clinic_{i:03d}.jpg", code, 300 + i)
    seen = sorted(ham10000.glob("*/*.jpg"))[0]
    (root / "test" / "nv" / "clinic_seen.jpg").write_bytes(seen.read_bytes())
    return root


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory):
    """Where all recipes of these tests put their runs."""
    return tmp_path_factory.mktemp("recipes") / "runs"


@pytest.fixture(autouse=True)
def in_runs_root(runs_root, monkeypatch):
    """Set during these tests alone: other tests look for their runs where they are."""
    monkeypatch.setenv("KDERM_RUNS", str(runs_root))


@pytest.fixture(scope="session")
def invoke(runs_root):
    """Call `python run.py ...` in a folder of its own; its output. Fails the test if it fails."""

    def call(*words: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(runs_root.parent)
            patch.setenv("KDERM_RUNS", str(runs_root))
            result = CliRunner().invoke(main, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return call


@pytest.fixture(scope="session")
def recipe(invoke, runs_root, tiny_backbone):
    """Run a recipe once: its run, what it printed, and its config's path."""
    finished: dict[str, SimpleNamespace] = {}

    def train(name: str, *overrides: str) -> SimpleNamespace:
        if name not in finished:
            config = CONFIGS / f"{name}.yaml"
            tiny = [*TINY, f"model.preset=file/{tiny_backbone}", *overrides]
            output = invoke("cv", "--config", str(config), *tiny)
            run = RunDir(runs_root / name)
            finished[name] = SimpleNamespace(run=run, output=output, config=config)
        return finished[name]

    return train


@pytest.fixture
def task_of():
    """The task of one fold of a finished recipe: its images, its plan of balancing, its loss."""

    def make(finished: SimpleNamespace, fold: int):
        config = load_config(finished.run.config)
        data = prepare(config, finished.run)
        return new_task(config, data, finished.run.fold(fold), fold, "float32")

    return make
