import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.data.augment import plain_transform
from kderm.data.images import read_image
from kderm.errors import UserError
from kderm.explain import of_run
from kderm.explain.activation_maps import Evidence, scaled
from kderm.explain.examples import choose_for_sheets
from kderm.explain.explained import as_table
from kderm.explain.of_run import check_run, explain_held_out, explain_run, open_for_maps, summary
from kderm.explain.targets import questions
from kderm.explain.view_maps import frame_maps
from kderm.labels import HAM10000
from kderm.models.classifier import load_classifier


def test_a_sheet_a_class_and_a_table_are_written(run, tmp_path):
    opened = open_for_maps(run)
    images = explain_run(opened, tmp_path / "out", each=2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(["maps.csv", *(f"sheet_{code}.jpg" for code in HAM10000.codes)])
    table = pd.read_csv(tmp_path / "out" / "maps.csv")
    assert len(table) == 2 * len(images)
    assert set(table["image_id"]) == {image.image_id for image in images}
    known = opened.oof.table.set_index("image_id")
    assert (known.loc[table["image_id"], "label"].to_numpy() == table["label"]).all()
    assert np.asarray(Image.open(tmp_path / "out" / "sheet_mel.jpg")).std() > 20


def test_each_map_is_that_of_the_member_that_held_the_image_out(run):
    opened = open_for_maps(run, views="d4")
    cards = explain_held_out(opened, [4, 11])
    for row, card in cards.items():
        about = opened.oof.table.iloc[row]
        path = opened.manifest.table.set_index("image_id").loc[about["image_id"], "path"]
        frame = read_image(path, opened.spec)[None]
        _, weights = questions(opened.oof.probabilities[[row]], HAM10000)
        member = Evidence(load_classifier(run.fold(row % 3).model))
        expected = frame_maps([member], frame, weights, opened.transforms)
        assert card.image.fold == row % 3
        assert card.image.maps == pytest.approx(scaled(expected.maps)[0], abs=1e-4)
        assert card.image.image_id == about["image_id"]


def test_members_that_see_metadata_are_given_those_of_the_manifest(run_with_metadata, tmp_path):
    images = explain_run(open_for_maps(run_with_metadata), tmp_path, each=1)
    assert any(image.maps.any() for image in images)


def test_a_layer_can_be_named_and_an_unknown_one_is_refused(run):
    deep = explain_held_out(open_for_maps(run), [3])[3].image
    early = explain_held_out(open_for_maps(run, layer="stem_relu"), [3])[3].image
    assert not np.allclose(deep.maps, early.maps, atol=0.05)
    with pytest.raises(UserError, match="stem_relu"):
        explain_held_out(open_for_maps(run, layer="stem_rely"), [3])


def test_without_metadata_of_the_member_the_file_is_named(run):
    run.fold(0).done.unlink()
    with pytest.raises(UserError, match=r"fold_0/done\.json"):
        explain_held_out(open_for_maps(run), [0])


def test_a_missing_member_is_named(run):
    run.fold(1).model.unlink()
    with pytest.raises(UserError, match=r"fold_1/model\.keras"):
        explain_held_out(open_for_maps(run), [1])


def test_a_folder_that_is_no_run_is_refused(run):
    run.config.unlink()
    with pytest.raises(UserError, match=r"config\.yaml"):
        open_for_maps(run)


def test_checks_are_of_images_drawn_by_the_seed_and_are_summed_up(run, tmp_path):
    opened = open_for_maps(run, views="none")
    checks, images = check_run(opened, tmp_path, 6)
    again, _ = check_run(opened, tmp_path, 6)
    pd.testing.assert_frame_equal(checks, again)
    assert len(checks) == len(images) == len(set(checks["image_id"])) == 6
    written = pd.read_csv(tmp_path / "checks.csv")
    assert written["deletion"].to_numpy() == pytest.approx(checks["deletion"].to_numpy())
    assert checks["image_id"].tolist() == [image.image_id for image in images]
    text = summary(images, checks, images)
    assert f"deletion {checks['deletion'].mean():.3f}" in text
    assert "6 held-out images drawn at random" in text


def test_more_checks_than_images_take_all(run, tmp_path):
    checks, _ = check_run(open_for_maps(run, views="none"), tmp_path, 1000)
    assert len(checks) == 21


def test_flags_are_counted(run):
    image = explain_held_out(open_for_maps(run), [0])[0].image
    image.shares[0]["flags"] = "one; two"
    assert "1 (100%)  one" in summary([image], None, [])
    table = as_table([image])
    assert table["flags"].tolist()[0] == "one; two"
    assert table["role"].tolist()[0] == "predicted"


def test_sheets_show_right_answers_misses_and_false_alarms_the_surest_first(run):
    oof = open_for_maps(run).oof
    chosen = choose_for_sheets(oof, 3)
    predicted, sure = oof.probabilities.argmax(axis=1), oof.probabilities.max(axis=1)
    for (code, section), rows in chosen.groupby(["sheet", "section"]):
        at, index = rows["position"].to_numpy(), HAM10000.index(code)
        is_class, is_called = oof.y[at] == index, predicted[at] == index
        assert (is_class == (section < 2)).all()
        assert (is_called == (section != 1)).all()
        assert (np.diff(sure[at]) <= 0).all()
        assert len(at) <= 3


def test_a_lesion_is_shown_once_a_section(run):
    table = pd.read_csv(run.oof)
    table["group_id"] = "one"
    table.to_csv(run.oof, index=False)
    chosen = choose_for_sheets(open_for_maps(run).oof, 5)
    assert (chosen.groupby(["sheet", "section"]).size() == 1).all()


def test_a_sheet_of_drawn_images_says_so(run, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(of_run, "draw_sheet", lambda path, title, *a, **k: titles.append(title))
    opened = open_for_maps(run)
    explain_run(opened, tmp_path, each=1)
    demo = opened.config.model_copy(
        update={"data": opened.config.data.model_validate({"dataset": "demo"})}
    )
    explain_run(dataclasses.replace(opened, config=demo), tmp_path, each=1)
    assert not any("SYNTHETIC" in title for title in titles[:7])
    assert all(title.startswith("SYNTHETIC DATA") for title in titles[7:])
    assert len(titles) == 14


def test_the_plain_view_is_among_the_views_of_a_run(run):
    opened = open_for_maps(run)
    plain = plain_transform((opened.spec.height, opened.spec.width))
    assert np.array_equal(opened.transforms[0], plain)
