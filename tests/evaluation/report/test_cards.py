"""The model card, the checklists, the mistakes, and what a report says first."""

import numpy as np
import pandas as pd
import pytest
import yaml

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report import style
from kderm.evaluation.report.checklist_items import CLAIM, TRIPOD_AI
from kderm.evaluation.report.mistakes import confident_mistakes
from kderm.evaluation.report.model_card import front_matter as front_matter_of
from kderm.evaluation.report.provenance import images_without_ids, unruled
from kderm.evaluation.report.reproduction import Background
from kderm.evaluation.report.write import FIGURES, FILES, remove_report, write_report
from kderm.labels import HAM10000


def predictions(n=420, seed=3):
    random = np.random.default_rng(seed)
    y = np.arange(n) // 2 % 7
    logits = random.normal(size=(n, 7)) + 1.2 * np.eye(7)[y]
    values = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame(values, columns=HAM10000.columns)
    frame["image_id"] = [f"im{i:04d}" for i in range(n)]
    frame["group_id"] = [f"lesion{i // 2}" for i in range(n)]
    frame["fold"] = np.arange(n) // 14 % 3
    frame["label"] = np.array(HAM10000.codes)[y]
    frame["sex"] = np.tile(["female", "male"], n // 2)
    return make_predictions(frame, HAM10000)


def pictures(ids):
    return {image_id: np.full((18, 24, 3), 120, np.uint8) for image_id in ids[1:]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "savefig.dpi", 36)
        write_report(
            predictions(),
            directory,
            title="A run",
            histories=None,
            facts={
                "data set": "HAM 10000 + own",
                "backbone": "file/../private_folder/lite0.keras",
                "weights": "none",
                "balancing": "none",
                "input": "128 px",
            },
            checkpoint="last",
            monitor="macro_auc",
            background=Background(
                name="a_run",
                config="seed: 42\n",
                versions={"kderm": "0.1"},
                digests={"oof.csv": "ab" * 32},
                pictures=pictures,
                overlays=pictures,
            ),
            resamples=20,
        )
    return directory


def front_matter(directory):
    text = (directory / "MODEL_CARD.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1]), text


def test_the_card_has_front_matter_that_hugging_face_reads(run):
    front, text = front_matter(run)
    assert text.startswith("---\n")
    assert front["pipeline_tag"] == "image-classification"
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == "a_run"
    assert {"type", "name"} <= set(result["task"])
    assert {"type", "name"} <= set(result["dataset"])
    assert all({"type", "name", "value"} <= set(metric) for metric in result["metrics"])


def test_hugging_face_reads_the_cards_results(run):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard.load(run / "MODEL_CARD.md").data
    assert data.model_name == "a_run"
    assert {result.metric_type for result in data.eval_results} >= {"roc_auc", "accuracy"}
    assert all(0 <= result.metric_value <= 1 for result in data.eval_results)
    (kind,) = {result.dataset_type for result in data.eval_results}
    assert kind == "ham-10000-own"
    assert {result.task_type for result in data.eval_results} == {"image-classification"}


def test_a_checkpoint_that_saw_the_scored_fold_is_told_in_the_minute_and_the_card(tmp_path, run):
    directory = tmp_path / "run"
    write_report(
        predictions(70),
        directory,
        title="A run",
        histories=None,
        facts={"data set": "HAM10000"},
        checkpoint="best",
        monitor="macro_auc",
        background=Background(name="a_run"),
        resamples=5,
    )
    caveat = "HAM10000, out-of-fold (optimistic: checkpoints chosen on the scored fold)"
    front, card = front_matter(directory)
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == caveat
    minute = (directory / "report.md").read_text(encoding="utf-8").split("## Data and leakage")[0]
    assert "- **Optimistic.** The epoch" in minute
    assert "- **Optimistic.** The epoch" in card
    clean, card = front_matter(run)
    assert clean["model-index"][0]["results"][0]["dataset"]["name"].endswith(", out-of-fold")
    assert "ptimistic" not in card


def test_no_page_of_a_run_names_a_folder_of_this_machine(run):
    for name in ("MODEL_CARD.md", "CHECKLIST.md", "report.md"):
        text = (run / name).read_text(encoding="utf-8")
        assert "private_folder" not in text
        assert "lite0.keras, a file of the author's" in text


def test_the_checklist_tells_how_weights_began_and_what_was_selected(run):
    text = (run / "CHECKLIST.md").read_text(encoding="utf-8")
    assert "| 24 | Initialisation of parameters | Weights of the backbone: random (from" in text
    assert "the member sees its centre (128 px)" in text
    assert "| 33 | Testing on external data | None in this report. |" in text
    assert "| 36 | Demographic and clinical characteristics by partition | Recorded: sex;" in text
    assert "temperature scaling with T =" in text


def test_the_cards_numbers_are_those_of_the_table(run):
    metrics = front_matter(run)[0]["model-index"][0]["results"][0]["metrics"]
    values = {metric["name"]: metric["value"] for metric in metrics}
    scored = predictions()
    right = (scored.probabilities.argmax(axis=1) == scored.y).mean()
    assert values["Accuracy"] == pytest.approx(right, abs=5e-5)


def test_the_card_says_that_it_is_no_medical_device_and_what_the_author_owes(run):
    text = front_matter(run)[1]
    assert "Not a medical device" in text
    assert "**For the author:** licence" in text


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """The pages of a run whose images nothing ties together, from two sources."""
    directory = tmp_path_factory.mktemp("strangers")
    table = predictions(70).table
    table = table.assign(group_id=table["image_id"], source=["one", "two"] * 35)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "savefig.dpi", 36)
        write_report(
            make_predictions(table, HAM10000),
            directory,
            title="A run",
            histories=None,
            facts={"pictures": "smartphone photographs"},
            checkpoint="last",
            monitor=None,
            background=Background(name="a_run"),
            resamples=5,
        )
    names = ("report.md", "MODEL_CARD.md", "CHECKLIST.md")
    return {name: (directory / name).read_text(encoding="utf-8") for name in names}


def test_without_lesion_or_patient_ids_every_page_says_that_leakage_is_possible(strangers):
    for text in strangers.values():
        assert "eakage cannot be ruled out" in text
        assert "No image has a lesion or patient id" in text
        assert "checked" not in text
        assert "whole groups" not in text
        assert "lesion-grouped" not in text
    assert (
        "answers to 70 pictures, each answered by a network that had never seen the image."
        in (strangers["report.md"])
    )
    assert "**70 images**, each scored" in strangers["report.md"]


def test_ids_of_some_images_leave_a_doubt_about_the_others():
    table = predictions(70).table
    table["group_id"] = table["group_id"].where(table.index < 60, table["image_id"])
    some = make_predictions(table, HAM10000)
    assert images_without_ids(some) == 10
    assert unruled(some).startswith("10 images have no lesion or patient id")
    named = make_predictions(table.assign(patient_id="p" + table["image_id"]), HAM10000)
    assert (images_without_ids(named), unruled(named)) == (0, "")
    assert unruled(make_predictions(table.drop(columns="fold"), HAM10000)) == ""


def test_several_sources_and_other_pictures_are_not_called_one_source_of_dermoscopy(strangers):
    assert "2 sources of images (one, two), internal validation" in strangers["CHECKLIST.md"]
    assert "The pixels of one picture (smartphone photographs)" in strangers["CHECKLIST.md"]
    for text in strangers.values():
        assert "dermoscop" not in text
        assert "dermatoscope" not in text
    assert "another kind than its own (smartphone photographs)" in strangers["MODEL_CARD.md"]


def test_how_pictures_of_an_unknown_kind_were_taken_is_asked_of_the_author(run):
    text = (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "**For the author:** how the pictures were taken" in text
    assert "dermoscop" not in text
    nothing = {"pooled": {}, "checkpoint_saw_scored_fold": None}
    known = front_matter_of("a_run", nothing, {"pictures": "dermoscopic pictures"})
    assert known["tags"][0] == "dermoscopy"


def test_ids_that_keep_lesions_together_are_told_as_checked(run):
    assert "belong in one fold, checked: no group is in two." in (run / "CHECKLIST.md").read_text()
    assert "resamples of whole groups" in (run / "CHECKLIST.md").read_text()
    report = (run / "report.md").read_text(encoding="utf-8")
    assert "nor another one of that lesion." in report
    assert "cannot be ruled out" not in report


def test_every_item_of_both_checklists_stands_in_the_file_once(run):
    text = (run / "CHECKLIST.md").read_text(encoding="utf-8")
    first, second = text.split("## CLAIM")
    for part, items in ((first, TRIPOD_AI), (second, CLAIM)):
        rows = [line.split(" | ")[0].strip("| ") for line in part.splitlines() if line[:1] == "|"]
        assert rows[2:] == [number for number, _, _ in items]


def test_items_that_only_the_author_knows_are_left_to_the_author(run):
    text = (run / "CHECKLIST.md").read_text(encoding="utf-8")
    assert "| 17 | Ethical approval and consent | **For the author** |" in text
    assert "| 18a | Funding | **For the author** |" in text
    assert "| 13 | Class imbalance | Balancing: none." in text


def test_claim_has_forty_four_items_and_tripod_ai_goes_to_twenty_seven():
    assert [number for number, _, _ in CLAIM] == [str(j) for j in range(1, 45)]
    assert TRIPOD_AI[-1][0] == "27c"
    assert len({number for number, _, _ in TRIPOD_AI}) == len(TRIPOD_AI) == 52


def test_the_page_opens_with_the_answer_and_shows_mistakes_with_maps(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.index("<h2>The answer in a minute") < page.index("<h2>Data and leakage")
    assert page.index("Not a medical device") < page.index("<h2>Discrimination")
    assert 'class="pair"' in page
    assert "seed: 42" in page
    assert "ab" * 32 in page


def test_mistakes_are_the_surest_wrong_answers_one_a_lesion():
    scored = predictions()
    table = confident_mistakes(scored, a_class=4)
    assert (table["label"] != table["predicted"]).all()
    assert not table.duplicated(["label", "group_id"]).any()
    assert table.groupby("label").size().max() <= 4
    assert list(dict.fromkeys(table["label"])) == [
        c for c in HAM10000.codes if c in set(table.label)
    ]
    wrong = scored.probabilities.argmax(axis=1) != scored.y
    surest = scored.probabilities[wrong & (scored.y == 0)].max()
    assert table["probability"].iloc[0] == pytest.approx(surest)


def test_permuting_rows_changes_no_mistake():
    scored = predictions()
    shuffled = make_predictions(scored.table.sample(frac=1, random_state=1), HAM10000)
    pd.testing.assert_frame_equal(confident_mistakes(scored), confident_mistakes(shuffled))


def test_an_ensemble_without_a_mistake_says_so(tmp_path):
    table = predictions(70).table
    right = np.eye(7)[predictions(70).y] * 0.93 + 0.01
    table[HAM10000.columns] = right
    write_report(
        make_predictions(table, HAM10000),
        tmp_path,
        title="A run",
        histories=None,
        facts={},
        checkpoint=None,
        monitor=None,
        resamples=5,
    )
    assert "No image was given a wrong class." in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "MODEL_CARD.md").exists()


def test_a_removed_report_leaves_nothing_of_itself(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for name in FILES:
        (tmp_path / name).write_text("x")
    for folder in ("figures", "tables"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{FIGURES[0]}.png").write_text("x")
    remove_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
