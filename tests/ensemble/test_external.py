import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm import run_dir
from kderm.atomic import write_csv, write_json
from kderm.data.store import build_store, store_digest
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.external import evaluate_external
from kderm.errors import UserError
from kderm.evaluation.report import write as report


def draw(path, seed, turn=None):
    """A picture with structure at every scale, so that it can be recognised."""
    rng = np.random.default_rng(seed)
    total = np.zeros((48, 64))
    for cells in (3, 8, 20):
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        total += 35 * np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC))
    grey = np.clip(total + 128, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if turn is None else image.transpose(turn)).save(path)
    return path


@pytest.fixture
def known_run(run, tmp_path, monkeypatch):
    """The finished run, with the manifest and the decoded images of four pictures."""
    monkeypatch.setenv("KDERM_RUNS", str(tmp_path))
    ids = ["ISIC_0000001", "ISIC_0000002", "ISIC_0000003", "own_4"]
    paths = [draw(tmp_path / "training" / f"{name}.png", n) for n, name in enumerate(ids)]
    table = pd.DataFrame({"image_id": ids, "path": map(str, paths), "label": "nv"})
    write_csv(run.manifest, table)
    spec = read_bundle(run.path).spec
    digest = store_digest(ids, paths, spec)
    build_store(run_dir.store_dir(digest), ids, paths, spec)
    write_json(run.store, {"digest": digest})
    return run


@pytest.fixture
def elsewhere(tmp_path):
    """Eight images in class folders; three of them are in the run's data too."""
    root = tmp_path / "clinic"
    draw(root / "nv" / "ISIC_0000001_downsampled.png", 100)  # by its id
    draw(root / "mel" / "file.png", 1)  # the same bytes
    draw(root / "nv" / "mirrored.png", 2, Image.Transpose.FLIP_LEFT_RIGHT)
    for number in range(5):
        draw(root / ("nv", "mel")[number % 2] / f"new_{number}.png", 50 + number)
    return root


def predicted(run):
    table = pd.read_csv(run.external / "clinic" / "predictions.csv", keep_default_na=False)
    return set(table["image_id"])


NEW = {f"new_{number}" for number in range(5)}


def test_images_of_the_run_are_found_by_id_file_and_picture_and_left_out(known_run, elsewhere):
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert table["by"].to_dict() == {
        "ISIC_0000001_downsampled": "id",
        "file": "digest",
        "mirrored": "picture",
    }
    assert table["training_image_id"].to_dict() == {
        "ISIC_0000001_downsampled": "ISIC_0000001",
        "file": "ISIC_0000002",
        "mirrored": "ISIC_0000003",
    }
    assert predicted(known_run) == NEW
    assert "3 of 8 images: 1 by id, 1 by file, 1 by picture; left out" in text
    assert "on 5 labelled images" in text


def test_a_label_that_differs_from_the_runs_is_told(known_run, elsewhere):
    text = evaluate_external(known_run, [str(elsewhere)])
    assert "WARNING: labelled otherwise here than in the run: 1 image of the overlap" in text
    assert "file is mel, there nv" in text


def test_the_report_says_from_the_start_what_was_left_out(known_run, elsewhere, monkeypatch):
    """Published in one piece, with overlap.csv there before it: a kill in between shows nothing."""
    seen = []
    write = report.write_report

    def written(*args, **more):
        found = write(*args, **more)
        place = known_run.external / "clinic"
        seen.append(((place / "report.md").read_text(), (place / "overlap.csv").is_file()))
        return found

    monkeypatch.setattr(report, "write_report", written)
    evaluate_external(known_run, [str(elsewhere)])
    (page, overlap) = seen[0]
    assert "| before prediction | overlap with the 4 images of the run" in page
    assert "3 of 8 images" in page
    assert overlap
    assert (known_run.external / "clinic" / "report.md").read_text() == page


def test_overlapping_images_can_be_kept_but_it_is_said(known_run, elsewhere):
    clean = known_run.external / "clinic" / "predictions.csv"
    evaluate_external(known_run, [str(elsewhere)])
    before = clean.read_bytes()
    text = evaluate_external(known_run, [str(elsewhere)], overlap="keep")
    place = known_run.external / "clinic_with_overlap"
    assert len(pd.read_csv(place / "predictions.csv")) == 8
    assert clean.read_bytes() == before
    assert "WARNING: overlap with the 4 images of the run" in text
    assert "KEPT, so this is no test of unseen images" in text
    assert len(pd.read_csv(place / "overlap.csv")) == 3


def test_without_the_store_ids_alone_are_compared_and_it_is_said(known_run, elsewhere):
    shutil.rmtree(run_dir.runs_root() / "_stores")
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv")
    assert table["by"].tolist() == ["id"]
    assert "images of the run (by id; " in text
    assert "WARNING: the run's decoded images are gone" in text


def test_without_the_training_files_pictures_are_compared(known_run, elsewhere, tmp_path):
    shutil.rmtree(tmp_path / "training")
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert table["by"].to_dict() == {
        "ISIC_0000001_downsampled": "id",
        "file": "picture",
        "mirrored": "picture",
    }
    assert "4 of the run's image files are gone" in text


def test_a_run_that_knows_no_image_any_more_says_so(run, elsewhere):
    run.oof.unlink()
    text = evaluate_external(run, [str(elsewhere)])
    assert "nothing is left of the run's images" in text
    assert len(predicted(run)) == 8


def test_an_id_in_a_table_is_compared_though_the_file_has_another_name(known_run, tmp_path):
    folder = tmp_path / "clinic"
    for number in range(4):
        draw(folder / f"scan{number}.png", 70 + number)
    rows = {
        "image_id": ["ISIC_0000002", "x1", "x2", "x3"],
        "path": [f"scan{number}.png" for number in range(4)],
        "label": ["nv", "mel", "nv", "mel"],
    }
    pd.DataFrame(rows).to_csv(folder / "clinic.csv", index=False)
    evaluate_external(known_run, [str(folder / "clinic.csv")])
    assert predicted(known_run) == {"x1", "x2", "x3"}


def know(run, **columns):
    """Give the run's manifest further columns."""
    table = pd.read_csv(run.manifest, dtype=str).assign(**columns)
    write_csv(run.manifest, table)


def clinic_table(folder, **columns):
    """Six new pictures and a CSV that names them."""
    for number in range(6):
        draw(folder / f"scan_{number}.png", 70 + number)
    names = [f"scan_{number}" for number in range(6)]
    table = pd.DataFrame({"image_id": names, "label": ["nv", "mel"] * 3, **columns})
    table.to_csv(folder / "clinic.csv", index=False)
    return str(folder / "clinic.csv")


def test_other_photographs_of_the_runs_lesions_and_patients_are_left_out(known_run, tmp_path):
    lesions, patients = ["HAM_0000001", "", "", "7"], ["", "IP_0000002", "", "P4"]
    know(known_run, lesion_id=lesions, patient_id=patients)
    table = clinic_table(
        tmp_path / "clinic",
        lesion_id=["HAM_0000001", "", "HAM_0000009", "", "", ""],
        patient_id=["", "IP_0000002", "", "", "IP_0000003", ""],
    )
    text = evaluate_external(known_run, [table])
    assert predicted(known_run) == {"scan_2", "scan_3", "scan_4", "scan_5"}
    assert "by id, file and picture, by lesion and by patient" in text
    assert "2 of 6 images: 2 of a lesion or patient of the run; left out" in text
    overlap = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert overlap["by"].to_dict() == {"scan_0": "group", "scan_1": "group"}
    assert overlap["training_image_id"].to_dict() == {
        "scan_0": "ISIC_0000001",
        "scan_1": "ISIC_0000002",
    }


def test_another_label_of_the_same_patient_is_no_contradiction(known_run, tmp_path):
    know(known_run, lesion_id="", patient_id=["IP_0000002", "", "", ""])
    patients = ["", "IP_0000002", "", "", "", ""]  # scan_1 is a melanoma, the run's image a nevus
    table = clinic_table(tmp_path / "clinic", patient_id=patients)
    assert "another label" not in evaluate_external(known_run, [table])


def test_equal_ids_that_each_collection_gives_anew_are_counted_and_stay_in(known_run, tmp_path):
    know(known_run, lesion_id=["1", "2", "", ""], patient_id="")
    table = clinic_table(tmp_path / "clinic", lesion_id=["1", "2", "3", "", "", ""])
    text = evaluate_external(known_run, [table])
    assert len(predicted(known_run)) == 6
    assert (
        "WARNING: 2 images with a lesion or patient id that the run has too, for example scan_0"
        in text
    )
    assert "tell no lesion or patient by an archive's ids" in text


def test_the_second_photograph_of_a_lesion_whose_first_is_in_both_is_left_out(known_run, tmp_path):
    folder = tmp_path / "clinic"
    table = clinic_table(folder, lesion_id=["a", "a", "b", "b", "", ""])
    draw(folder / "scan_0.png", 2, Image.Transpose.FLIP_LEFT_RIGHT)  # a picture of the run
    evaluate_external(known_run, [table])
    overlap = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert overlap["by"].to_dict() == {"scan_0": "picture", "scan_1": "group"}
    assert predicted(known_run) == {f"scan_{number}" for number in range(2, 6)}


def test_a_better_evidence_than_the_patient_is_told(known_run, tmp_path):
    know(known_run, lesion_id="", patient_id="IP_0000002")
    folder = tmp_path / "clinic"
    table = clinic_table(folder, patient_id=["IP_0000002"] * 2 + [""] * 4)
    draw(folder / "scan_0.png", 1)
    evaluate_external(known_run, [table])
    overlap = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert overlap["by"].to_dict() == {"scan_0": "digest", "scan_1": "group"}
    assert overlap.loc["scan_0", "training_image_id"] == "ISIC_0000002"


def test_the_official_test_is_scored_from_where_it_was_unpacked_to_without_the_made_picture(
    known_run, tmp_path
):
    names = ["ISIC_0034524", "ISIC_0034525", "ISIC_0035068"]
    truth = tmp_path / "isic2018" / "ISIC2018_Task3_Test_GroundTruth"
    truth.mkdir(parents=True)
    for number, name in enumerate(names):
        draw(tmp_path / "isic2018" / "ISIC2018_Task3_Test_Input" / f"{name}.jpg", 80 + number)
    table = truth / "ISIC2018_Task3_Test_GroundTruth.csv"
    table.write_text(
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_0034524,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0034525,1.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0035068,0.0,0.0,1.0,0.0,0.0,0.0,0.0\n"
    )
    text = evaluate_external(known_run, [str(table)])
    answers = pd.read_csv(known_run.external / table.stem / "predictions.csv")
    assert answers["image_id"].tolist() == names[:2]
    assert answers["label"].tolist() == ["nv", "mel"]
    assert "ISIC_0035068 is synthetic" in text
    assert "3 of 3 images were found from the folder above its own" in text


def test_class_folders_of_another_label_space_are_translated_or_left_out_by_name(
    known_run, tmp_path
):
    for number, folder in enumerate(["melanoma", "nv", "ak", "scc", "scc", "to_sort"]):
        draw(tmp_path / "clinic" / folder / f"c{number}.png", 60 + number)
    text = evaluate_external(known_run, [str(tmp_path / "clinic")])
    answers = pd.read_csv(known_run.external / "clinic" / "predictions.csv")
    answers = answers.set_index("image_id")["label"]
    assert answers.to_dict() == {"c0": "mel", "c1": "nv", "c2": "akiec"}
    assert "1 image labelled 'ak' taken for akiec" in text
    assert "2 images labelled 'scc' left out: it has no counterpart in ham10000" in text
    assert "1 image left out, in folders named after no class of ham10000: to_sort" in text
    report = (known_run.external / "clinic" / "report.md").read_text()
    assert "'scc' left out" in report


def test_folders_none_of_which_is_a_class_of_the_run_are_refused_by_name(known_run, tmp_path):
    draw(tmp_path / "clinic" / "scc" / "a.png", 60)
    with pytest.raises(UserError, match="'scc' left out: it has no counterpart"):
        evaluate_external(known_run, [str(tmp_path / "clinic")])


def test_unlabelled_images_are_refused(known_run, tmp_path):
    draw(tmp_path / "plain" / "a.png", 60)
    with pytest.raises(UserError, match="Expected images with labels"):
        evaluate_external(known_run, [str(tmp_path / "plain")])
    assert not known_run.external.exists()


def test_a_collection_that_the_run_has_as_a_whole_is_refused(known_run, tmp_path):
    draw(tmp_path / "same" / "nv" / "a.png", 0)
    draw(tmp_path / "same" / "nv" / "b.png", 1)
    with pytest.raises(UserError, match="Nothing is left to score"):
        evaluate_external(known_run, [str(tmp_path / "same")])


def test_results_of_another_folder_of_the_same_name_are_not_replaced(
    known_run, elsewhere, tmp_path
):
    evaluate_external(known_run, [str(elsewhere)])
    draw(tmp_path / "b" / "clinic" / "nv" / "a.png", 80)
    with pytest.raises(UserError, match="results of other images"):
        evaluate_external(known_run, [str(tmp_path / "b" / "clinic")])
    out = tmp_path / "b" / "out"
    evaluate_external(known_run, [str(tmp_path / "b" / "clinic")], out=out)
    assert (out / "overlap.csv").is_file()
    assert predicted(known_run) == NEW


def test_the_answers_are_those_of_ensemble_predict(known_run, elsewhere, predict, tmp_path):
    evaluate_external(known_run, [str(elsewhere)])
    mine = pd.read_csv(known_run.external / "clinic" / "predictions.csv").set_index("image_id")
    _, theirs = predict(known_run, [elsewhere], tmp_path / "plain", batch_size=32)
    columns = read_bundle(known_run.path).labels.columns
    theirs = theirs.loc[mine.index, columns].astype(float)
    np.testing.assert_allclose(mine[columns], theirs, atol=2e-6)
