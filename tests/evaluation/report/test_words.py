"""What the report says in words: lesions against groups, thresholds in counts, weak subgroups."""

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report.decision_sections import benefit_section, operating_section
from kderm.evaluation.report.mistakes import confident_mistakes, mistakes_section
from kderm.evaluation.report.probabilities import better_scaling, scaling_words, tendency_words
from kderm.evaluation.report.provenance import lesion_ids
from kderm.evaluation.report.subgroup_sections import gaps_sentence, subgroup_name, weakest
from kderm.evaluation.report.summary import plain_sentences
from kderm.evaluation.report.wording import of_hundred, percent, whole_percent
from kderm.labels import HAM10000


def table(lesions, groups, n=4):
    frame = pd.DataFrame(np.full((n, 7), 1 / 7), columns=HAM10000.columns)
    frame["image_id"] = [f"im{i}" for i in range(n)]
    frame["label"] = ["mel", "nv", "bcc", "nv"][:n]
    frame["group_id"], frame["lesion_id"] = groups, lesions
    return frame


def told(lesions, groups, **more):
    return lesion_ids(make_predictions(table(lesions, groups).assign(**more), HAM10000))


def test_lesions_and_groups_that_agree_need_no_words():
    assert told(list("aabc"), list("aabc")) == ""


def test_groups_that_join_lesion_ids_are_counted():
    said = told(list("abcd"), list("aabb"))
    assert "these are 4 lesions, in 2 groups: 4 of the ids are joined in 2 groups" in said
    assert "(duplicates listed" in said
    assert "one patient's lesions" in told(list("abcd"), list("aabb"), patient_id=list("ppqq"))


def test_images_without_a_lesion_id_are_counted():
    said = told(["a", None, None, "b"], list("awxb"))
    assert said.endswith("2 images without a lesion id, and grouped without one.")


def rate(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def point(target, **more):
    return {
        "target": target,
        "rule": "youden",
        "sensitivity": rate(0.9),
        "specificity": rate(0.8),
        "number_needed_to_biopsy": {"value": 3.21},
        "n_positive": 10,
        "n_negative": 90,
    } | more


def found(points=(), notable=(), chosen_here=True, gap=(0, -0.1, 0.1), **pooled):
    entry = {"value": 0.7, "low": 0.6, "high": 0.8, "rest": 0.9}
    nothing = {"value": None, "low": None, "high": None}
    level = {"level": "ear", "images": 56, "recorded": True, "metrics": {}}
    level["metrics"] = {"malignant_auc": entry, "malignant_sensitivity": entry}
    return {
        "n_images": 4,
        "n_groups": 4,
        "checkpoint_saw_scored_fold": None,
        "groups_in_several_folds": 0,
        "pooled": {"accuracy": nothing, "balanced_accuracy": nothing} | pooled,
        "per_class": {},
        "lesions": {"reason": "none", "n_lesions": 0},
        "calibration": {"mean_confidence": 0.5, "share_right": 0.5},
        "calibration_report": {
            "targets": {},
            "top_label": {"gap": dict(zip(("value", "low", "high"), gap, strict=True))},
        },
        "operating_points": {"points": list(points), "chosen_here": chosen_here},
        "subgroups": {
            "gaps": {"intervals": 83, "excluding_zero": len(notable), "by_chance": 4.15},
            "notable": list(notable),
            "attributes": [{"title": "Body site", "levels": [level]}],
        },
    }


def said(words, **changes):
    predictions = make_predictions(table(list("abcd"), list("abcd")), HAM10000)
    sentences = plain_sentences(predictions, found(**changes))
    return next((one for one in sentences if one.startswith(f"**{words}")), "")


def test_melanoma_is_told_in_counts_of_a_hundred_by_the_other_folds_thresholds():
    honest = {"sensitivity": rate(0.88), "specificity": rate(0.75)}
    honest["number_needed_to_biopsy"] = {"value": 4.56}
    words = said("Melanoma", points=[point("mel", cross_fitted=honest)])
    assert "set on the other folds, it flags 88 of 100 melanomas (95 % interval 86 to 90)" in words
    assert "misses 12; of 100 pictures of something else it flags 25 (false positives)" in words
    assert (
        "The number needed to biopsy is 4.6 (flagged pictures for each melanoma among them)"
        in words
    )
    assert "where 10 % of the pictures are melanomas" in words


def test_where_nothing_is_flagged_nothing_is_said_of_the_flagged():
    words = said("Melanoma", points=[point("mel", number_needed_to_biopsy={"value": None})])
    assert words.endswith("flags 20 (false positives).")


@pytest.mark.parametrize(
    ("share", "count"),
    [
        (0, "0"),
        (0.0049, "fewer than 1"),
        (0.0051, "1"),
        (0.145, "14"),
        (1 - 0.145, "86"),
        (0.9949, "99"),
        (0.996, "more than 99"),
        (1, "100"),
    ],
)
def test_a_share_of_a_hundred_claims_no_certainty(share, count):
    assert of_hundred(share) == count
    assert whole_percent(share) == f"{count.replace('fewer', 'less')} %"


def test_counts_of_a_hundred_and_their_rest_add_up_to_a_hundred():
    for thousandth in range(6, 995):
        share = thousandth / 1000
        assert int(of_hundred(share)) + int(of_hundred(1 - share)) == 100


def test_almost_all_is_not_called_all():
    almost = {"value": 0.996, "low": 0.981, "high": 0.9991}
    words = said("Melanoma", points=[point("mel", sensitivity=almost, specificity=almost)])
    assert "it flags more than 99 of 100 melanomas (95 % interval 98 to more than 99)" in words
    assert "misses fewer than 1; of 100 pictures of something else it flags fewer than 1" in words
    assert "in more than 99 of 100 such pairs" in said("Ranking", mel_auc=almost)
    assert percent(almost) == "more than 99 % (98 to more than 99)"


@pytest.mark.parametrize(
    ("gap", "page", "summary"),
    [
        ((-0.0002, -0.02, 0.02), ": no overconfidence or underconfidence beyond", "neither over"),
        (
            (0.09, 0.05, 0.13),
            ": overconfident (gap 0.090 (0.050 to",
            "right in 50 %: overconfident.",
        ),
        ((-0.09, -0.13, -0.05), ": underconfident (gap -0.090", "right in 50 %: underconfident."),
        ((0.09, None, None), "", "is right in 50 %."),
    ],
)
def test_overconfidence_or_underconfidence_is_said_where_it_is_more_than_chance(gap, page, summary):
    told = tendency_words(dict(zip(("value", "low", "high"), gap, strict=True)))
    assert told.startswith(page)
    assert bool(told) == bool(page)
    assert summary in said("Confidence", gap=gap)


@pytest.mark.parametrize("scaling", [None, "temperature"])
def test_the_calibrated_scale_is_named_only_where_there_is_one(scaling):
    numbers = found(points=[]) | {"scaling": scaling}
    numbers["operating_points"] |= {
        "points": [
            point("mel", threshold=0.3, ppv=rate(0.3), at_prevalence=[], flagged_share=rate(0.2))
        ],
        "rules": {},
        "not_chosen": [],
    }
    numbers["net_benefit"] = {"targets": {"mel": {"useful": []}}, "thresholds": []}
    predictions = make_predictions(table(list("abcd"), list("abcd")), HAM10000)
    numbers["operating_points"]["points"][0]["number_needed_to_biopsy"] = rate(3)
    for section, words in (
        (operating_section(predictions, numbers), "They are on the calibrated scale."),
        (benefit_section(numbers), "Probabilities are calibrated by the other folds."),
    ):
        text = " ".join(getattr(block, "words", "") for block in section.blocks)
        assert (words in text) == (scaling is not None)


def test_other_prevalences_start_from_the_thresholds_of_the_other_folds():
    optimistic = [{"prevalence": 0.05, "ppv": 0.99, "npv": 0.99, "number_needed_to_biopsy": 1.0}]
    honest = {"sensitivity": rate(0.88), "specificity": rate(0.75)}
    honest["number_needed_to_biopsy"] = rate(4.56)
    one = point("mel", threshold=0.3, ppv=rate(0.3), flagged_share=rate(0.2))
    one |= {"at_prevalence": optimistic, "number_needed_to_biopsy": rate(3)}
    predictions = make_predictions(table(list("abcd"), list("abcd")), HAM10000)
    for fitted, sensitivity, specificity in ((honest, 0.88, 0.75), (None, 0.9, 0.8)):
        numbers = found(points=[one | {"cross_fitted": fitted}]) | {"scaling": None}
        numbers["operating_points"] |= {"rules": {}, "not_chosen": []}
        section = operating_section(predictions, numbers)
        (row,) = next(
            block for block in section.blocks if getattr(block, "name", "") == "prevalence"
        ).rows
        true, false = 0.05 * sensitivity, 0.95 * (1 - specificity)
        assert row[3] == pytest.approx(true / (true + false))
        assert row[5].value == pytest.approx((true + false) / true)
        text = " ".join(getattr(block, "words", "") for block in section.blocks)
        assert ("at the thresholds of the other folds" in text) == (fitted is not None)


def test_a_threshold_from_elsewhere_is_called_frozen():
    words = said("Melanoma", points=[point("mel")], chosen_here=False)
    assert "frozen on out-of-fold predictions, it flags 90 of 100" in words


def test_without_a_threshold_nothing_is_said_of_it():
    assert said("Melanoma") == said("Malignant") == ""


def gap(metric, value):
    return {"attribute": "Body site", "level": "ear", "metric": metric, "gap": value}


def test_the_weakest_subgroup_is_named_with_its_number_and_that_of_the_rest():
    notable = [gap("malignant_auc", -0.2), gap("malignant_sensitivity", -0.2)]
    words = said("Weakest", notable=notable, points=[point("malignant")])
    assert "worst in Body site: ear (56 images): AUC 0.700 (0.600 to 0.800), against 0.900" in words
    assert "(balance (Youden)) it misses 30 of 100 malignant pictures in Body site: ear and 10" in (
        words
    )


@pytest.mark.parametrize(
    ("notable", "words"),
    [
        (
            [],
            "95 % intervals of 83 gaps to the rest, none leaves out zero; by chance alone about 4",
        ),
        ([-0.1], "1 leaves out zero (1 worse than the rest, 0 better); by chance alone about 4"),
        ([-0.1, 0.1], "2 leave out zero (1 worse than the rest, 1 better); by chance alone"),
    ],
)
def test_the_minute_and_the_section_count_the_same_gaps_in_the_same_words(notable, words):
    gaps = [gap("balanced_accuracy", value) for value in notable]
    sentence = gaps_sentence(found(notable=gaps)["subgroups"])
    assert words in sentence
    minute = said("Subgroups", notable=gaps)
    assert sentence in minute
    largest = "The largest to the worse: balanced accuracy in Body site: ear."
    assert (largest in minute) == (-0.1 in notable)


def test_subgroups_that_are_only_better_are_no_weak_ones():
    better = [gap("malignant_auc", 0.1)]
    assert "(0 worse than the rest, 1 better)" in said("Subgroups", notable=better)
    assert weakest(found(notable=[gap("malignant_auc", 0.1)])["subgroups"], "malignant_auc") is None


@pytest.mark.parametrize(
    ("title", "level", "name"),
    [
        ("Body site", "ear", "Body site: ear"),
        ("Image quality: hair", "yes", "Image quality: hair"),
        ("Image quality: hair", "no", "Image quality: hair (no)"),
    ],
)
def test_a_subgroup_is_named_as_people_would(title, level, name):
    assert subgroup_name(title, level) == name


def test_the_scaling_of_new_images_is_told_with_its_values():
    fitted = {"kind": "temperature", "temperature": 1.2345}
    assert "temperature scaling with T = 1.234" in scaling_words(fitted, ["mel", "nv"])
    fitted = {"kind": "vector", "sharpness": [0.8, 1.1], "shift": [-0.3, 0.25]}
    words = scaling_words(fitted, ["mel", "nv"])
    assert "vector scaling" in words
    assert "(mel 0.80 and -0.30, nv 1.10 and +0.25)" in words


@pytest.mark.parametrize(
    ("kind", "raw", "temperature", "vector", "is_told"),
    [
        ("temperature", 0.878, 0.881, 0.816, True),
        ("temperature", 0.878, 0.870, 0.816, False),
        ("temperature", 0.878, 0.881, 0.879, False),
        ("vector", 0.878, 0.881, 0.816, False),
    ],
)
def test_vector_scaling_is_named_where_the_applied_temperature_does_not_help(
    kind, raw, temperature, vector, is_told
):
    gain = {"log_loss": {"value": vector - raw, "low": -0.1, "high": -0.02}}
    scaling = {
        "raw": {"log_loss": raw},
        "temperature": {"log_loss": temperature},
        "vector": {"log_loss": vector, "difference": gain},
    }
    words = better_scaling(scaling, kind)
    assert bool(words) == is_told
    if is_told:
        assert "(0.878 as they are, 0.881 scaled)" in words
        assert "(0.816, difference -0.062 (-0.100 to -0.020))" in words
        assert "`predict.calibration=vector`" in words


def test_a_picture_of_a_mistake_is_captioned_in_words():
    frame = table(list("abcd"), list("abcd"))
    frame[HAM10000.columns] = 0.001
    frame["p_nv"] = 0.994
    predictions = make_predictions(frame, HAM10000)
    pixels = {"im0": np.zeros((4, 4, 3), np.uint8)}
    mistakes = confident_mistakes(predictions)
    section = mistakes_section(predictions, mistakes, pictures=lambda ids: pixels, overlays=None)
    captions = [shown.caption for block in section.blocks for shown in getattr(block, "items", ())]
    said = "Taken for melanocytic nevus with 99 %; the truth, mel, got less than 1 %. im0"
    assert said in captions
