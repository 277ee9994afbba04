"""What a comparison leaves behind: the page, the tables, the picture."""

import json

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.comparison.compare import compare_runs
from kderm.evaluation.comparison.figure import FEW_RUNS, panels_of, plot_differences
from kderm.evaluation.comparison.join import join_runs
from kderm.evaluation.comparison.page import (
    comparison_page,
    known_headline,
    p_value,
    terminal_table,
    verdict,
)
from kderm.evaluation.comparison.write import differences_table, disagreements, write_comparison
from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000


@pytest.fixture
def pair(answered):
    """Two runs, the second better, and what was found."""
    joined = join_runs({"weak": answered(0.5), "strong": answered(3.0, seed=1)})
    return joined, compare_runs(joined, resamples=100)


@pytest.fixture
def many(answered):
    """More runs than a row a metric has room for."""
    runs = {f"r{j}": answered(1 + 0.1 * j, seed=j) for j in range(FEW_RUNS + 2)}
    return compare_runs(join_runs(runs), resamples=100)


def test_everything_is_written_and_the_json_is_what_was_found(pair, tmp_path):
    joined, found = pair
    page = write_comparison(found, joined, tmp_path / "new")
    assert page == tmp_path / "new" / "compare.md"
    assert {path.name for path in page.parent.iterdir()} == {
        "compare.md",
        "comparison.json",
        "differences.csv",
        "differences.png",
        "differences.svg",
        "disagreements.csv",
    }
    assert json.loads((page.parent / "comparison.json").read_text()) == found


def test_the_same_tables_give_the_same_bytes(pair, tmp_path):
    joined, found = pair
    for name in ("first", "again"):
        write_comparison(found, joined, tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_page_opens_with_the_answer_and_says_what_it_does_not_hold_for(pair):
    _, found = pair
    page = comparison_page(found)
    opening = page.split("\n\n")
    assert opening[0] == "# strong against weak"
    assert opening[1].startswith("strong against weak: better in malignant AUC +")
    assert "not for other trainings" in opening[2]
    assert "120 images of 60 lesions or patients" in opening[2]
    assert "p, Holm" not in page


def test_the_numbers_of_the_page_are_those_that_were_found(pair):
    _, found = pair
    row = found["comparisons"][0]["differences"]["balanced_accuracy"]
    shown = f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    assert f"| {shown} | strong |" in comparison_page(found)
    counts = found["comparisons"][0]["accuracy"]
    right = f"| **strong right** | {counts['both_right']} | {counts['only_second']} |"
    assert right in comparison_page(found)


def test_many_runs_are_told_at_a_glance_with_adjusted_p_values(many):
    page = comparison_page(many)
    assert "| r0 | " in page
    assert page.index("| r6 | ") < page.index("![")
    assert "p, Holm" in page
    assert terminal_table(many).count("\n") > len(many["runs"])


def test_notes_stand_on_the_page_as_they_were_given(answered):
    joined = join_runs({"a": answered(1.0), "b": answered(2.0)}, ["First.", "Second."])
    assert "> First.\n>\n> Second." in comparison_page(compare_runs(joined, resamples=100))


def test_a_verdict_names_what_is_better_what_is_worse_and_what_is_not_shown(pair):
    _, found = pair
    row = found["comparisons"][0]
    for j, name in enumerate(known_headline(found)):
        row["differences"][name] = {
            "value": 0.1,
            "low": 0.05,
            "high": 0.2,
            "better": ("strong", "weak", None)[min(j, 2)],
        }
    told = verdict(found, row)
    assert "better in malignant AUC +0.100 (+0.050 to +0.200); worse in melanoma AUC +0.1" in told
    assert "; no difference shown in macro AUC, balanced accuracy" in told


def test_too_few_groups_to_tell_anything_are_said_and_draw_no_picture(answered, tmp_path):
    joined = join_runs({"a": answered(1.0, n=2), "b": answered(2.0, n=2)})
    found = compare_runs(joined, resamples=100)
    (tmp_path / "differences.png").write_bytes(b"of another comparison")
    page = write_comparison(found, joined, tmp_path).read_text()
    assert "too few groups to tell any difference" in page
    assert not (tmp_path / "differences.png").exists()
    assert "](differences.png)" not in page


def test_a_bound_close_to_zero_is_not_printed_as_zero(pair):
    _, found = pair
    entry = {"value": 0.004, "low": 0.0002, "high": 0.008, "better": "strong"}
    found["comparisons"][0]["differences"]["accuracy"] = entry
    assert "accuracy +0.0040 (+0.0002 to +0.0080)" in verdict(found, found["comparisons"][0])


def test_the_table_has_a_row_a_metric_and_run_with_its_test(many):
    table = differences_table(many)
    runs = len(many["comparisons"])
    assert (table.groupby(["metric", "class"]).size() == runs).all()
    assert set(table.loc[table["test"] == "DeLong, clustered", "metric"]) == {
        "auc",
        "malignant_auc",
    }
    row = table[(table["run"] == "r3") & (table["metric"] == "auc") & (table["class"] == "mel")]
    found = many["comparisons"][2]
    assert row["p"].item() == found["auc"]["auc/mel"]["p"]
    assert row["difference"].item() == found["differences"]["auc/mel"]["value"]
    assert row["run_value"].item() - row["reference_value"].item() == pytest.approx(
        row["difference"].item()
    )


def test_disagreements_are_the_images_answered_differently_the_widest_apart_first(pair):
    joined, _ = pair
    table = disagreements(joined)
    a, b = joined.tables.values()
    differ = a.probabilities.argmax(axis=1) != b.probabilities.argmax(axis=1)
    assert set(table["image_id"]) == set(a.table["image_id"][differ])
    apart = (table["weak_p_true"] - table["strong_p_true"]).abs()
    assert apart.is_monotonic_decreasing or (apart.diff().dropna() <= 2e-4).all()
    assert (table["weak_answer"] != table["strong_answer"]).all()


def test_a_tied_top_class_is_no_answer_in_the_table_of_disagreements(answered, table):
    tied = table(1.0)
    tied[HAM10000.columns] = 1 / 7
    runs = {"label": answered(1.0), "tied": make_predictions(tied, HAM10000)}
    found = disagreements(join_runs(runs))
    assert (found["tied_answer"] == "").all()
    assert len(found) == 120
    assert set(found["label"]) <= set(HAM10000.codes)


def test_melanoma_alone_malignant_is_shown_once(answered, three):
    runs = {"a": answered(1.0, labels=three), "b": answered(2.0, labels=three)}
    found = compare_runs(join_runs(runs), resamples=100)
    assert "auc/mel" not in known_headline(found)
    assert "malignant_auc" in known_headline(found)


@pytest.mark.parametrize("few", [True, False])
def test_every_panel_shows_metrics_that_have_an_interval(many, few):
    panels = panels_of(many, few)
    assert len(panels) == (3 if few else 5)
    for row in many["comparisons"]:
        row["differences"]["auc/df"]["low"] = row["differences"]["log_loss"]["low"] = None
    left = {metric for _, metrics in panels_of(many, few) for metric in metrics}
    assert {"auc/df", "log_loss"}.isdisjoint(left)
    assert "malignant_auc" in left


def test_pictures_of_few_and_of_many_runs_are_drawn(pair, many, tmp_path):
    from PIL import Image

    sizes = []
    for name, found in (("few", pair[1]), ("many", many)):
        plot_differences(tmp_path / f"{name}.png", found)
        image = Image.open(tmp_path / f"{name}.png")
        sizes.append(image.size)
        assert np.asarray(image.convert("L")).std() > 5
        assert (tmp_path / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    assert sizes[0][0] < sizes[0][1]
    assert sizes[1][0] > sizes[1][1]


@pytest.mark.parametrize(
    ("p", "shown"), [(None, "n/a"), (0.0004, "< 0.001"), (0.0416, "0.042"), (1.0, "1.000")]
)
def test_p_values_are_printed_as_in_papers(p, shown):
    assert p_value(p) == shown


def test_a_name_with_a_bar_does_not_break_a_table(answered):
    found = compare_runs(join_runs({"a|b": answered(1.0), "c": answered(2.0)}), resamples=100)
    header = next(line for line in comparison_page(found).splitlines() if "| metric |" in line)
    assert "a\\|b" in header
    assert header.replace("\\|", "").count("|") == 6


def test_differences_read_back_from_the_csv_are_equal(pair, tmp_path):
    joined, found = pair
    write_comparison(found, joined, tmp_path)
    table = pd.read_csv(tmp_path / "differences.csv").set_index("metric")
    expected = found["comparisons"][0]["differences"]["macro_auc"]
    assert table.loc["macro_auc", "difference"] == pytest.approx(expected["value"])
    assert table.loc["macro_auc", "better"] == expected["better"]


def drawn_ends(found, monkeypatch, tmp_path):
    """Ends of every interval that the picture draws, in the order of drawing."""
    from matplotlib.axes import Axes

    ends, plot = [], Axes.plot

    def spy(axes, x, *others, **options):
        if isinstance(x, list) and len(x) == 2:
            ends.append(tuple(x))
        return plot(axes, x, *others, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    plot_differences(tmp_path / "differences.png", found)
    return ends


def test_the_picture_draws_the_intervals_that_the_tables_state(pair, monkeypatch, tmp_path):
    found = pair[1]
    (row,) = found["comparisons"]
    ends = drawn_ends(found, monkeypatch, tmp_path)
    stated = comparison_page(found)
    for metric in ("malignant_auc", "macro_auc", "log_loss", *row["auc"]):
        entry = row["differences"][metric]
        assert (entry["low"], entry["high"]) in ends
        assert f"({entry['low']:+.3f} to {entry['high']:+.3f})" in stated
    assert not {(test["low"], test["high"]) for test in row["auc"].values()} & set(ends)
    assert "the resampled one, which the picture draws" in stated


def test_both_intervals_of_an_area_are_stated(pair):
    found = pair[1]
    (row,) = found["comparisons"]
    entry, test = row["differences"]["auc/mel"], row["auc"]["auc/mel"]
    line = next(line for line in comparison_page(found).splitlines() if line.startswith("| mel |"))
    assert f"{entry['value']:+.3f} ({entry['low']:+.3f} to {entry['high']:+.3f}) |" in line
    assert f"| {test['low']:+.3f} to {test['high']:+.3f} |" in line
    table = differences_table(found).set_index(["metric", "class"])
    assert table.loc[("auc", "mel"), "delong_low"] == test["low"]
    assert table.loc[("auc", "mel"), "low"] == entry["low"]


def test_an_area_on_whose_zero_the_intervals_disagree_is_named(pair):
    found = pair[1]
    assert "do not agree" not in comparison_page(found)
    (row,) = found["comparisons"]
    row["auc"]["auc/mel"] |= {"low": -0.001}
    assert "For mel it and DeLong's do not agree on whether zero" in comparison_page(found)
    row["auc"]["auc/mel"] |= {"low": None, "high": None}
    assert "do not agree" not in comparison_page(found)
