import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.ensemble import smaller
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.held_out import held_out, own_images, read_oof
from kderm.ensemble.smaller import averaged, same_class, write_smaller
from kderm.errors import UserError

CODES = ["p_akiec", "p_bcc", "p_bkl", "p_df", "p_mel", "p_nv", "p_vasc"]


@pytest.fixture
def shrink(spoilable, monkeypatch):
    """shrink(*arguments): what `kderm shrink copy` printed, and its exit code."""
    monkeypatch.setenv("KDERM_RUNS", str(spoilable.path.parent))

    def called(*arguments):
        result = CliRunner().invoke(main, ["shrink", "copy", *arguments])
        return result.output, result.exit_code

    return called


def test_a_soup_answers_as_the_network_of_averaged_weights(shrink, spoilable, elsewhere, predict):
    output, code = shrink()
    assert code == 0, output
    place = spoilable.path / "smaller" / "soup"
    assert f"ensemble-predict IMAGES --run {place}" in output
    bundle = read_bundle(place)
    soup = averaged(spoilable, read_bundle(spoilable.path), batch_size=32)
    kept = keras.saving.load_model(bundle.member_paths[0])
    for found, own in zip(kept.get_weights(), soup.get_weights(), strict=True):
        np.testing.assert_allclose(found, own, atol=1e-6)
    summary, table = predict(type(spoilable)(place), [elsewhere], place / "out")
    np.testing.assert_allclose(table[CODES].to_numpy(float).sum(axis=1), 1, atol=1e-5)
    assert (table["passes"] == 3).all()  # three views (flips) of one network, not of three
    assert any("averaged weights of 3 members" in warning for warning in summary.warnings)


def test_what_was_frozen_in_the_run_stays_but_the_score_of_unlike_images(spoilable):
    whole = read_bundle(spoilable.path)
    facts = write_smaller(spoilable, whole, None, 32)[0].facts
    for name in ("calibration", "prior", "malignant_threshold", "operating_points", "conformal"):
        assert getattr(facts, name) == getattr(whole.facts, name)
    assert facts.unlike is None
    assert facts.members[0].fold is None
    assert facts.members[0].scores == {}


def test_chosen_members_are_averaged_as_they_are_in_the_run(spoilable, elsewhere, predict):
    whole = read_bundle(spoilable.path)
    alone = [
        write_smaller(spoilable, whole, [fold], 32)[0].directory for fold in (0, 2)
    ]  # each by itself
    both = write_smaller(spoilable, whole, [2, 0], 32)[0]
    assert both.directory.name == "folds_0_2"
    assert [member.sha256 for member in both.facts.members] == [
        whole.facts.members[fold].sha256 for fold in (0, 2)
    ]
    frames = np.random.default_rng(0).integers(0, 256, (3, *whole.frame, 3)).astype(np.uint8)
    found = [_answers(read_bundle(place), frames) for place in (*alone, both.directory)]
    np.testing.assert_allclose(found[2], np.concatenate(found[:2]), atol=1e-6)


def _answers(bundle, frames):
    from kderm.data.views import view_transforms
    from kderm.ensemble.engines.keras_engines import keras_engine

    engine: Engine = keras_engine(bundle, 4)
    plain = view_transforms("none", bundle.frame)[0]
    return np.stack([word[0] for word in engine.round(engine.look(frames, plain), None)])


def test_only_images_that_a_member_was_trained_on_count_as_seen(spoilable):
    whole = read_bundle(spoilable.path)
    own = set(read_oof(whole).table["image_id"])
    of_fold = {
        fold: set(part.image_ids) for fold, part in enumerate(held_out(whole, read_oof(whole)))
    }
    assert write_smaller(spoilable, whole, [1], 32)[0].trained_on() == own - of_fold[1]
    assert write_smaller(spoilable, whole, [0, 1], 32)[0].trained_on() == own
    assert write_smaller(spoilable, whole, None, 32)[0].trained_on() == own


def test_a_soup_has_images_to_look_at_but_none_to_be_scored_on(spoilable):
    soup = write_smaller(spoilable, read_bundle(spoilable.path), None, 32)[0]
    oof = read_oof(soup)
    assert own_images(soup, oof)[0].image_ids == oof.table["image_id"].tolist()
    with pytest.raises(UserError, match="held out no image"):
        held_out(soup, oof)


def test_a_smaller_bundle_is_exported_as_a_run_is(spoilable, shrink):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert shrink()[1] == 0
    place = spoilable.path / "smaller" / "soup"
    result = CliRunner().invoke(main, ["export", str(place), "--precision", "int8"])
    assert result.exit_code == 0, result.output
    assert "images of the run" in result.output
    assert (place / "engines" / "onnx_int8" / "soup.onnx").is_file()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("0,7", "among 0, 1, 2"),
        ("0,0", "different folds"),
        ("0,1,2", "fewer than all 3"),
        ("broth", "--members soup, or folds"),
        ("", "--members soup, or folds"),
    ],
)
def test_other_members_are_refused_and_nothing_is_written(shrink, spoilable, members, words):
    output, code = shrink("--members", members)
    assert code == 2
    assert words in " ".join(output.split())
    assert not list((spoilable.path / "smaller").glob("*/*"))


@pytest.mark.parametrize("members", ["soup", "0"])
def test_what_was_shrunk_is_not_shrunk_again(shrink, spoilable, members):
    assert shrink("--members", "0,2")[1] == 0
    place = spoilable.path / "smaller" / "folds_0_2"
    result = CliRunner().invoke(main, ["shrink", str(place), "--members", members])
    assert result.exit_code == 2
    assert "Shrink that run itself" in " ".join(result.output.split())
    assert not (place / "smaller").exists()


def test_a_soup_needs_the_images_of_the_run(shrink, spoilable, tmp_path):
    table = spoilable.manifest.read_text().replace("/images/", "/gone/")
    spoilable.manifest.write_text(table)
    assert shrink()[1] == 2
    assert not (spoilable.path / "smaller" / "soup" / "ensemble.json").exists()


def test_members_that_cannot_be_averaged_leave_the_earlier_bundle_be(spoilable, monkeypatch):
    whole = read_bundle(spoilable.path)
    before = write_smaller(spoilable, whole, None, 32)[0]

    def refused(paths):
        raise UserError("different shapes")

    monkeypatch.setattr(smaller, "uniform_soup", refused)
    with pytest.raises(UserError, match="different shapes"):
        write_smaller(spoilable, whole, None, 32)[0]
    assert read_bundle(before.directory).digest == before.digest


@pytest.mark.parametrize("verb", ["select", "explain", "evaluate", "compare"])
def test_verbs_of_a_run_say_what_a_smaller_bundle_is_for(shrink, spoilable, verb):
    assert shrink("--members", "0")[1] == 0
    place = str(spoilable.path / "smaller" / "folds_0")
    words = [place, place] if verb == "compare" else [place]
    result = CliRunner().invoke(main, [verb, *words])
    assert result.exit_code == 2
    assert "as shrink writes it" in " ".join(result.output.split())


def test_a_soup_of_strangers_is_warned_of_and_one_of_equals_is_not(shrink, spoilable):
    output, code = shrink()
    assert code == 0
    assert "answers otherwise than its members" in output  # three members of other random weights
    whole = read_bundle(spoilable.path)
    member = keras.saving.load_model(whole.member_paths[0])
    alone = whole.facts.model_copy(update={"members": whole.facts.members[:1]})
    assert same_class(spoilable, replace(whole, facts=alone), member, 8) == 1


def test_int8_of_a_copy_without_its_run_says_where_to_export_it(shrink, spoilable, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert shrink("--members", "0")[1] == 0
    place = shutil.copytree(spoilable.path / "smaller" / "folds_0", tmp_path / "alone")
    table = (place / "manifest.csv").read_text().replace("/images/", "/gone/")
    (place / "manifest.csv").write_text(table)
    words = ["export", str(place), "--precision", "int8"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "before the folder is copied" in " ".join(result.output.split())
