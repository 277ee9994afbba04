"""What goes with the diagnosis: tests against scipy, and columns that tell the class."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kderm.inspection.association import associations, missing_values, telling_columns


def manifest(n=400, seed=0):
    """A manifest's table of two classes, nothing of it associated with the class."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image_id": [f"i{j}" for j in range(n)],
            "lesion_id": [f"l{j}" for j in range(n)],
            "patient_id": np.nan,
            "label": rng.choice(["mel", "nv"], n),
            "age": rng.integers(20, 80, n).astype(float),
            "sex": rng.choice(["female", "male"], n),
            "site": rng.choice(["back", "face", "trunk"], n),
        }
    )


def test_the_tests_are_those_of_scipy():
    table = manifest()
    found = associations(table).set_index("factor")
    counts = pd.crosstab(table["site"], table["label"])
    expected = stats.chi2_contingency(counts, correction=False)
    assert found.loc["site", "statistic"] == pytest.approx(expected.statistic)
    assert found.loc["site", "p"] == pytest.approx(expected.pvalue)
    expected = stats.kruskal(*(part["age"] for _, part in table.groupby("label")))
    assert found.loc["age", "statistic"] == pytest.approx(expected.statistic)
    assert found.loc["age", "p"] == pytest.approx(expected.pvalue)


def test_chance_is_called_negligible_and_a_sure_sign_strong():
    table = manifest()
    assert associations(table, ["sex"])["size"].tolist() == ["negligible"]
    table["sex"] = np.where(table["label"] == "mel", "male", "female")
    table["age"] = np.where(table["label"] == "mel", table["age"] + 100, table["age"])
    found = associations(table, ["sex", "age"]).set_index("factor")
    assert found.loc["sex", "effect"] == pytest.approx(1, abs=0.01)
    assert found.loc["sex", "size"] == found.loc["age", "size"] == "strong"


def test_many_images_of_one_lesion_count_once():
    table = manifest(40)
    repeated = pd.concat([table] * 30, ignore_index=True)
    found, expected = associations(repeated), associations(table)
    pd.testing.assert_frame_equal(found, expected)
    without_ids = repeated.assign(lesion_id=np.nan)
    assert (associations(without_ids)["n"] == 30 * expected["n"].to_numpy()).all()


def test_a_value_that_is_missing_in_one_class_is_found():
    table = manifest()
    table.loc[table["label"] == "mel", "sex"] = "unknown"
    found = associations(table, ["sex"]).set_index("factor")
    assert "sex" not in found.index  # one class is left, so nothing to compare
    assert found.loc["sex missing", "size"] == "strong"
    shares = missing_values(table, ["mel", "nv", "df"]).set_index("column")
    assert shares.loc["sex", ["mel", "nv"]].tolist() == [1, 0]
    assert np.isnan(shares.loc["sex", "df"])
    assert shares.loc["patient_id", "all"] == 1
    assert shares.loc["age", "all"] == 0


def test_an_age_of_zero_is_known():
    table = manifest()
    table.loc[:9, "age"] = 0.0
    assert missing_values(table, ["mel"]).set_index("column").loc["age", "all"] == 0


def telling(**columns):
    n = 300
    labels = np.array(["akiec", "mel", "nv"])[np.arange(n) % 3]
    table = pd.DataFrame({name: make(labels, n) for name, make in columns.items()})
    return telling_columns(table, labels).set_index("column")


def test_columns_are_ranked_by_how_well_they_tell_the_class():
    rng = np.random.default_rng(0)
    found = telling(
        noise=lambda labels, n: rng.choice(["a", "b"], n),
        scanner=lambda labels, n: "of " + pd.Series(labels),
        number=lambda labels, n: [str(10 * ord(label[0]) + rng.integers(3)) for label in labels],
        half=lambda labels, n: np.where(labels == "nv", "x", "y"),
    )
    assert found.loc["scanner", "balanced_accuracy"] == 1
    assert found.loc["scanner", "verdict"] == "nearly determines the class"
    assert found.loc["number", "skill"] > 0.95
    assert found.loc["half", "balanced_accuracy"] == pytest.approx(2 / 3, abs=0.01)
    assert found.loc["half", "verdict"] == "tells much"
    assert found.loc["noise", "skill"] < 0.1
    assert found.loc["noise", "verdict"] == ""
    assert found.index[-1] == "noise"


def test_a_column_of_names_tells_nothing():
    found = telling(serial=lambda labels, n: [f"id{j}" for j in range(n)])
    assert found.loc["serial", "balanced_accuracy"] == pytest.approx(1 / 3)
    assert found.loc["serial", "skill"] == pytest.approx(0, abs=1e-9)


def test_a_leaking_column_is_named_with_the_reason_even_when_it_tells_little():
    found = telling(dx_type=lambda labels, n: ["histo"] * n, empty=lambda labels, n: [""] * n)
    assert found.loc["dx_type", "verdict"] == "leaks"
    assert "confirmed" in found.loc["dx_type", "leaks"]
    assert found.loc["empty", "missing"] == 1
    assert found.loc["empty", "leaks"] == ""


def test_rare_classes_weigh_as_much_as_common_ones():
    labels = np.array(["nv"] * 980 + ["mel"] * 20)
    column = pd.DataFrame({"flag": ["a"] * 980 + ["b"] * 20, "none": ["a"] * 1000})
    found = telling_columns(column, labels).set_index("column")
    assert found.loc["flag", "balanced_accuracy"] == 1
    assert found.loc["none", "balanced_accuracy"] <= 0.5
