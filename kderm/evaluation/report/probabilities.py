"""Whether the probabilities mean what they say: calibration, and how often they expect a class."""

from functools import partial

from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report import figures
from kderm.evaluation.report.document import (
    Figure,
    Heading,
    Section,
    Share,
    Table,
    Text,
)
from kderm.evaluation.report.prior import prior_sentence, prior_shift


def calibration_section(predictions: Predictions, found: dict) -> Section:
    """Reliability, calibration errors, and the prior of the predictions."""
    numbers = found["calibration"]
    gap = numbers["mean_confidence"] - numbers["share_right"]
    tendency = "overconfident" if gap > 0 else "underconfident"
    words = (
        f"The top class gets a probability of {numbers['mean_confidence']:.3f} on average and is "
        f"right in {numbers['share_right']:.3f} of the images: {tendency} by {abs(gap):.3f}. "
        f"Expected calibration error {numbers['ece']:.3f} ({numbers['bins']} equal-width bins), "
        f"Brier score {numbers['brier']:.3f} (0 to 2), log-loss {numbers['log_loss']:.3f}."
    )
    shift = prior_shift(predictions)
    rows = [
        [row.code, Share(row.share), Share(row.mean_probability), float(row.ratio)]
        for row in shift.itertuples()
    ]
    prior_words = (
        prior_sentence(shift) or "The probabilities expect each class about as often as it comes."
    )
    return Section(
        "Calibration",
        [
            Text(words),
            Figure(
                "reliability",
                "Reliability diagram: predicted probability against what came true",
                partial(figures.plot_reliability, predictions=predictions),
            ),
            Heading("Prior of the predictions"),
            Text(prior_words),
            Table(["class", "share of the images", "mean probability", "ratio"], rows, "prior"),
        ],
    )
