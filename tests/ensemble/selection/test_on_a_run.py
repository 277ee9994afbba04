import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_json
from kderm.data.images import read_image
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.feature_pass import FeatureForward
from kderm.ensemble.held_out import RunFrames, held_out, read_oof
from kderm.ensemble.member_selection import select_members
from kderm.ensemble.selection_files import write_selection
from kderm.ensemble.unlike import FILE
from kderm.ensemble.unlike_fit import add_unlike
from kderm.ensemble.view_selection import select_views
from kderm.errors import UserError
from kderm.labels import HAM10000
from kderm.models.classifier import load_classifier
from kderm.models.forward import Forward


@pytest.fixture
def passes(monkeypatch):
    """For every batch of frames that a model was shown: the number of images."""
    seen, call = [], Forward.__call__

    def counted(self, images, *more, **named):
        seen.append(len(images))
        return call(self, images, *more, **named)

    monkeypatch.setattr(Forward, "__call__", counted)
    return seen


# === A run's own images ===


def test_each_member_gets_the_images_that_it_held_out(seen):
    bundle = read_bundle(seen.path)
    parts = held_out(bundle, read_oof(bundle))
    assert [part.fold for part in parts] == [0, 1, 2]
    assert all(name.startswith(f"ISIC_90{part.fold}") for part in parts for name in part.image_ids)
    assert parts[1].member == seen.fold(1).model


def test_frames_come_in_order_from_the_files_when_the_store_is_gone(seen):
    bundle = read_bundle(seen.path)
    ids = ["ISIC_9020003", "ISIC_9000000", "ISIC_9010007"]
    chunks = list(RunFrames(seen, bundle).chunks(ids, 2))
    assert [len(chunk) for chunk in chunks] == [2, 1]
    folder = seen.path.parent / "images"
    expected = [read_image(folder / f"{name}.png", bundle.spec) for name in ids]
    np.testing.assert_array_equal(np.concatenate(chunks), np.stack(expected))


def test_lost_images_and_ids_that_the_manifest_lacks_are_told(spoilable):
    bundle = read_bundle(spoilable.path)
    manifest = pd.read_csv(spoilable.manifest, dtype=str, keep_default_na=False)
    manifest.loc[0, "path"] = "gone.png"
    manifest.iloc[:-1].to_csv(spoilable.manifest, index=False)
    frames = RunFrames(spoilable, bundle)
    with pytest.raises(UserError, match=r"gone\.png cannot be read"):
        list(frames.chunks([manifest.loc[0, "image_id"]], 4))
    with pytest.raises(UserError, match="same images"):
        list(frames.chunks([manifest["image_id"].iloc[-1]], 4))


def test_folds_that_the_bundle_does_not_have_are_refused(spoilable):
    bundle = read_bundle(spoilable.path)
    table = pd.read_csv(spoilable.oof, dtype=str, keep_default_na=False)
    table[table["fold"] != "2"].to_csv(spoilable.oof, index=False)
    with pytest.raises(UserError, match=r"\[0, 1, 2\]"):
        held_out(bundle, read_oof(bundle))


# === Unlike the training data ===


def test_features_come_with_the_very_answers_of_a_plain_pass(seen):
    bundle = read_bundle(seen.path)
    frames = next(RunFrames(seen, bundle).chunks([f"ISIC_900000{i}" for i in range(5)], 5))
    transforms = view_transforms("flips", bundle.frame)
    both = FeatureForward(load_classifier(bundle.member_paths[0]), bundle.frame, 4)
    probabilities, features = both.split(both(frames, transforms))
    plain = Forward(load_classifier(bundle.member_paths[0]), bundle.frame, 4)
    np.testing.assert_allclose(probabilities, plain(frames, transforms), atol=1e-6)
    logits = load_classifier(bundle.member_paths[0]).get_layer("logits")
    kernel, bias = logits.get_weights()
    powers = np.exp(features @ kernel + bias)
    expected = powers / powers.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(expected, probabilities, atol=1e-5)


def test_predictions_tell_pictures_unlike_those_of_the_run(spoilable, elsewhere, predict, tmp_path):
    _, before = predict(spoilable, [elsewhere], tmp_path / "before")
    assert (before["unlike"] == "").all()
    bundle = add_unlike(spoilable, batch_size=8)
    assert bundle.facts.unlike.file == FILE
    strange = tmp_path / "strange"
    strange.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 2, (40, 46, 3)) * 255
        Image.fromarray(noise.astype(np.uint8)).save(strange / f"noise_{number}.png")
    (strange / "broken.png").write_bytes(b"")
    summary, table = predict(spoilable, [elsewhere, strange], tmp_path / "out")
    answered = table[table["error"] == ""]
    score = answered["unlike"].astype(float)
    noise = answered.index.str.startswith("noise")
    assert score[noise].min() > score[~noise].max()
    assert (answered.loc[noise, "unlike_training"].astype(int) == 1).all()
    assert (answered.loc[~noise, "unlike_training"].astype(int) == 0).mean() > 0.8
    assert table.loc["broken", ["unlike", "unlike_training"]].tolist() == ["", ""]
    assert any("unlike" in warning for warning in summary.warnings)
    columns = list(HAM10000.columns)
    np.testing.assert_allclose(
        table.loc[before.index, columns].astype(float), before[columns].astype(float), atol=1e-6
    )


def test_the_score_is_fitted_once_and_survives_a_new_bundle(spoilable, passes):
    first = add_unlike(spoilable, batch_size=8)
    assert sum(passes) > 0
    passes.clear()
    assert add_unlike(spoilable).facts.unlike == first.facts.unlike
    assert write_bundle(spoilable).facts.unlike == first.facts.unlike
    assert sum(passes) == 0


def test_a_run_with_few_images_a_member_gets_no_score(run):
    with pytest.raises(UserError, match="Received: 14, 14, 14"):
        add_unlike(run)


# === Views ===


def test_views_are_weighed_on_held_out_images_and_kept_for_the_next_time(spoilable, passes):
    bundle = read_bundle(spoilable.path)
    views, greedy = select_views(spoilable, bundle, views=["d4"], batch_size=8, resamples=20)
    assert [row["views"] for row in views.rows] == ["none", "flips", "d4"]
    assert "answer as in its out-of-fold table" in " ".join(views.notes)
    assert greedy.rows[-1]["choice"] == "greedy, scored on images not used to choose"
    assert sum(passes) == 84
    passes.clear()
    again, _ = select_views(spoilable, bundle, views=["flips"], batch_size=8, resamples=20)
    assert sum(passes) == 0
    assert again.rows == views.rows[:2]


def test_a_sample_of_the_images_is_a_part_of_each_fold(spoilable):
    bundle = read_bundle(spoilable.path)
    reports = []
    views, _ = select_views(
        spoilable,
        bundle,
        views=[],
        images=30,
        resamples=5,
        progress=lambda *counts: reports.append(counts),
    )
    assert views.notes[0].startswith("On 30 images, whole groups")
    assert reports[-1] == (30, 30)


def test_answers_other_than_the_runs_own_are_warned_of(spoilable):
    for fold in range(3):
        path = spoilable.fold(fold).oof
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table[HAM10000.columns] = "0.1428571"
        table.to_csv(path, index=False)
    write_bundle(spoilable)
    bundle = read_bundle(spoilable.path)
    views, _ = select_views(spoilable, bundle, views=[], batch_size=8, resamples=5)
    assert any(note.startswith("WARNING: the run's own views") for note in views.notes)


def test_the_tables_are_written_as_csv_and_markdown(spoilable):
    bundle = read_bundle(spoilable.path)
    views, _ = select_views(spoilable, bundle, views=[], batch_size=8, resamples=5)
    path = write_selection(spoilable, views)
    text = path.read_text()
    assert text.startswith("# Test-time views")
    assert "| none | 1 |" in text
    table = pd.read_csv(path.with_suffix(".csv"))
    assert table["macro_auc"].tolist() == [row["macro_auc"] for row in views.rows]
    assert "macro auc gain" in str(views)


# === Members ===


def test_members_are_weighed_on_images_from_elsewhere(spoilable, elsewhere, passes):
    bundle = read_bundle(spoilable.path)
    members, greedy, soup = select_members(
        spoilable, bundle, [str(elsewhere)], with_soup=True, batch_size=8, resamples=10
    )
    assert [(row["members"], row["views"]) for row in members.rows] == [
        (count, views) for views in ("none", "flips") for count in (1, 2, 3)
    ]
    assert members.notes[0].startswith("On 24 labelled images from elsewhere (bcc 8, mel 8, nv 8)")
    assert greedy.rows[-1]["choice"] == "greedy, scored on images not used to choose"
    assert [row["model"] for row in soup.rows][:2] == ["ensemble", "soup"]
    assert sum(passes) == 4 * 24
    passes.clear()
    again = select_members(spoilable, bundle, [str(elsewhere)], with_soup=True, resamples=10)
    assert sum(passes) == 0
    assert again[0].rows == members.rows


def test_images_of_the_run_and_unlabelled_or_unreadable_ones_weigh_nothing(spoilable, elsewhere):
    bundle = read_bundle(spoilable.path)
    table = pd.read_csv(spoilable.manifest, dtype=str, keep_default_na=False).head(3)
    (elsewhere / "mel" / "broken.png").write_bytes(b"\x89PNG cut")
    for path in table["path"]:
        target = elsewhere / "nv" / path.rpartition("/")[2]
        target.write_bytes(Path(path).read_bytes())
    members, *_ = select_members(spoilable, bundle, [str(elsewhere)], views=[], resamples=5)
    assert members.notes[0].startswith("On 24 labelled images")
    assert "3 by id" in members.notes[0]
    with pytest.raises(UserError, match="no member was trained on"):
        select_members(spoilable, bundle, table["path"].tolist(), resamples=5)


def test_a_sample_of_images_from_elsewhere_will_do(spoilable, elsewhere):
    bundle = read_bundle(spoilable.path)
    members, _ = select_members(spoilable, bundle, [str(elsewhere)], images=10, resamples=5)
    assert members.notes[0].startswith("On 10 labelled images")


def test_a_single_lesion_from_elsewhere_is_too_little(spoilable, elsewhere):
    _, *others = sorted((elsewhere / "mel").iterdir())
    for path in [*others, *(elsewhere / "nv").iterdir(), *(elsewhere / "bcc").iterdir()]:
        path.unlink()
    bundle = read_bundle(spoilable.path)
    with pytest.raises(UserError, match=r"two lesions .* Received: 1 image"):
        select_members(spoilable, bundle, [str(elsewhere)], resamples=5)


def test_a_member_that_has_changed_is_asked_anew(spoilable, elsewhere, passes):
    bundle = read_bundle(spoilable.path)
    select_members(spoilable, bundle, [str(elsewhere)], resamples=5)
    first, second = (spoilable.fold(fold).model for fold in (0, 1))
    first.write_bytes(second.read_bytes())
    done = json.loads(spoilable.fold(1).done.read_text())["model_sha256"]
    mine = json.loads(spoilable.fold(0).done.read_text())
    write_json(spoilable.fold(0).done, mine | {"model_sha256": done})
    passes.clear()
    select_members(spoilable, write_bundle(spoilable), [str(elsewhere)], resamples=5)
    assert sum(passes) == 24


def test_a_picture_replaced_under_its_name_is_another_picture(spoilable, elsewhere, passes):
    bundle = read_bundle(spoilable.path)
    select_members(spoilable, bundle, [str(elsewhere)], resamples=5)
    first, second, *_ = sorted((elsewhere / "mel").iterdir())
    first.write_bytes(second.read_bytes())
    passes.clear()
    select_members(spoilable, bundle, [str(elsewhere)], resamples=5)
    assert sum(passes) == 3 * 24
