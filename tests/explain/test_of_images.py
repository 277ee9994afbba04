from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.data.images import ImageSpec, read_image
from kderm.data.views import view_transforms
from kderm.explain import of_images
from kderm.explain.activation_maps import Evidence, scaled
from kderm.explain.of_images import Ensemble, explain_images, overlay_names
from kderm.explain.targets import questions
from kderm.explain.view_maps import frame_maps
from kderm.labels import HAM10000, label_space
from kderm.models.classifier import load_classifier

SPEC = ImageSpec(36, 48)


@pytest.fixture
def ensemble(run):
    return Ensemble([run.fold(fold).model for fold in range(3)], HAM10000, SPEC, "flips")


@pytest.fixture
def answers(run):
    """Six images of the run, with answers of their own."""
    manifest = pd.read_csv(run.manifest).iloc[:6].reset_index(drop=True)
    table = manifest[["image_id", "path", "label"]].copy()
    table[HAM10000.columns] = np.random.default_rng(5).dirichlet(np.ones(7), 6)
    return table


def test_each_image_gets_an_overlay_and_the_likeliest_melanoma_comes_first(
    ensemble, answers, tmp_path
):
    images = explain_images(ensemble, answers, tmp_path / "out")
    expected = answers.sort_values("p_mel", ascending=False)["image_id"].tolist()
    assert [image.image_id for image in images] == expected
    overlays = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert overlays == sorted(f"{image_id}.jpg" for image_id in answers["image_id"])
    table = pd.read_csv(tmp_path / "out" / "maps.csv")
    assert table["image_id"].tolist() == [name for name in expected for _ in range(2)]
    assert (table["fold"] == -1).all()
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact_sheet_01.jpg"))
    assert sheet.std() > 20


def test_the_map_is_the_mean_over_members_and_views(ensemble, answers, run, tmp_path):
    images = explain_images(ensemble, answers, tmp_path)
    found = {image.image_id: image for image in images}[answers["image_id"][2]]
    members = [Evidence(load_classifier(run.fold(fold).model)) for fold in range(3)]
    _, weights = questions(answers[HAM10000.columns].to_numpy()[[2]], HAM10000)
    frame = read_image(answers["path"][2], SPEC)[None]
    expected = frame_maps(members, frame, weights, view_transforms("flips", (36, 48)))
    assert found.maps == pytest.approx(scaled(expected.maps)[0], abs=1e-4)


def test_many_images_are_split_over_sheets_with_the_same_maps(
    ensemble, answers, tmp_path, monkeypatch
):
    whole = explain_images(ensemble, answers, tmp_path / "one")
    monkeypatch.setattr(of_images, "PER_SHEET", 4)
    steps = []
    parts = explain_images(
        ensemble, answers, tmp_path / "two", progress=lambda *done: steps.append(done)
    )
    assert len(list((tmp_path / "one").glob("contact_sheet_*"))) == 1
    assert len(list((tmp_path / "two").glob("contact_sheet_*"))) == 2
    assert steps[-1] == (6, 6)
    for one, other in zip(whole, parts, strict=True):
        assert one.image_id == other.image_id
        assert other.maps == pytest.approx(one.maps, abs=1e-4)


def test_pictures_of_an_earlier_call_are_removed(ensemble, answers, tmp_path):
    explain_images(ensemble, answers, tmp_path)
    explain_images(ensemble, answers.iloc[:2], tmp_path)
    assert len(list((tmp_path / "overlays").iterdir())) == 2


def test_a_file_that_has_become_unreadable_is_left_out(ensemble, answers, tmp_path):
    answers.loc[3, "path"] = str(tmp_path / "gone.png")
    images = explain_images(ensemble, answers, tmp_path / "out")
    assert len(images) == 5
    assert answers["image_id"][3] not in {image.image_id for image in images}


def test_no_images_give_an_empty_table(ensemble, answers, tmp_path):
    assert explain_images(ensemble, answers.iloc[:0], tmp_path) == []
    assert pd.read_csv(tmp_path / "maps.csv").empty


def test_metadata_follow_their_images(run_with_metadata, answers, tmp_path):
    members = [run_with_metadata.fold(0).model]
    ensemble = Ensemble(members, HAM10000, SPEC, "none")
    known = np.random.default_rng(0).normal(size=(6, 2)).astype("float32") * 3
    whole = explain_images(ensemble, answers, tmp_path, metadata=known)
    alone = explain_images(ensemble, answers.iloc[[4]], tmp_path, metadata=known[[4]])
    same = {image.image_id: image for image in whole}[alone[0].image_id]
    assert same.maps == pytest.approx(alone[0].maps, abs=1e-4)


def test_without_a_diagnosis_to_watch_the_unsure_come_first(run, answers, tmp_path):
    space = label_space("custom", HAM10000.codes)
    members = [run.fold(0).model]
    images = explain_images(Ensemble(members, space, SPEC, "none"), answers, tmp_path)
    sure = [image.questions[0].probability for image in images]
    assert sure == sorted(sure)
    assert {image.questions[1].role for image in images} == {"runner-up"}


def test_overlay_names_hold_nothing_that_leads_elsewhere_and_differ():
    ids = ["a/b", "a b", "../../etc", "plain", "x" * 300, "x" * 301, "a_b"]
    names = overlay_names(ids)
    assert len(set(names)) == len(ids)
    assert names[3] == "plain.jpg"
    assert names[6] == "a_b.jpg"
    assert all("/" not in name and not name.startswith(".") for name in names)
    assert max(map(len, names)) < 200


@pytest.mark.parametrize("synthetic", [False, True])
def test_a_sheet_by_an_ensemble_of_drawn_images_says_so(
    ensemble, answers, tmp_path, monkeypatch, synthetic
):
    titles = []
    monkeypatch.setattr(of_images, "draw_sheet", lambda path, title, *_, **__: titles.append(title))
    explain_images(replace(ensemble, synthetic=synthetic), answers.iloc[:2], tmp_path)
    assert titles == ["SYNTHETIC DATA  ·  " * synthetic + "What speaks for the answers"]
