"""Columns that give the label away are refused with the reason, and only those."""

import pytest

from kderm.data.datasets.leaking import LEAKING, leak_of, refuse_leaking
from kderm.errors import UserError

# Columns of real tables: HAM10000, ISIC 2019, 2020, 2024, the archive, PAD-UFES-20.
LEAKS = [
    *("dx", "dx_type", "diagnosis", "diagnosis_1", "diagnostic", "benign_malignant", "target"),
    *("diagnosis_confirm_type", "melanocytic", "iddx_full", "iddx_1", "mel_thick_mm"),
    *("mel_mitotic_index", "tbp_lv_dnn_lesion_confidence", "lesion_id", "biopsed", "image_id"),
    *("isic_id", "patient_id", "Benign Malignant", "source"),
]
HARMLESS = [
    *("age", "age_approx", "sex", "gender", "site", "localization", "region", "fitspatrick"),
    *("anatom_site_general", "tbp_lv_A", "clin_size_long_diam_mm", "diameter_1", "smoke"),
]


@pytest.mark.parametrize("column", LEAKS)
def test_a_column_that_gives_the_label_away_is_refused_with_its_reason(column):
    with pytest.raises(UserError, match=f"'{column}' \\(.+\\)"):
        refuse_leaking(["age", column])


def test_several_are_told_in_one_paragraph():
    with pytest.raises(UserError, match=r"2 columns.*'dx_type'.*'iddx_full'") as error:
        refuse_leaking(["age", "dx_type", "sex", "iddx_full"])
    assert "\n" not in str(error.value)
    assert "'age'" not in str(error.value)


def test_what_is_known_before_a_diagnosis_is_accepted():
    assert {column: leak_of(column) for column in HARMLESS} == dict.fromkeys(HARMLESS)
    refuse_leaking(HARMLESS)


def test_no_pattern_stands_in_two_rows_of_the_list():
    patterns = [pattern for row in LEAKING for pattern in row.patterns]
    assert len(set(patterns)) == len(patterns)
