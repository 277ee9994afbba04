"""Whether predictions expect each class as often as it comes: the prior of the probabilities.

Balancing, focal loss and mixing change how often a class counts in training, and the network's
probabilities follow. Ranking metrics do not see it; reading 0.3 as "three of ten" does. Reads a
`Predictions` table, returns plain numbers. Must stay free of Keras.
"""

import numpy as np
import pandas as pd

from kderm.evaluation.predictions import Predictions

# A class is named if its mean probability is off by more than this factor, up or down.
FACTOR = 1.5
# And by more than so many standard errors of the count that the probabilities expect.
STANDARD_ERRORS = 3.0


def prior_shift(predictions: Predictions) -> pd.DataFrame:
    """How often each class comes, and how often the probabilities expect it.

    Returns:
        One row a class in label-space order, columns
        code: class code;
        images: its images;
        share: its share of all images;
        mean_probability: mean of its probability over all images;
        ratio: mean_probability / share, NaN for a class without images;
        shifted: whether the ratio is beyond `FACTOR` and no play of chance, that is, the count is
            more than `STANDARD_ERRORS` from the expected one, if each image were of a class with
            just the probability that is predicted.
    """
    probabilities = predictions.probabilities
    images = np.bincount(predictions.y, minlength=probabilities.shape[1])
    share, mean = images / len(predictions), probabilities.mean(axis=0)
    ratio = np.divide(mean, share, out=np.full(len(share), np.nan), where=share > 0)
    error = np.sqrt((probabilities * (1 - probabilities)).sum(axis=0))
    far = np.abs(probabilities.sum(axis=0) - images) > STANDARD_ERRORS * error
    with np.errstate(divide="ignore"):
        factor = np.exp(np.abs(np.log(ratio)))
    return pd.DataFrame(
        {
            "code": predictions.labels.codes,
            "images": images,
            "share": share,
            "mean_probability": mean,
            "ratio": ratio,
            "shifted": far & (factor > FACTOR),
        }
    )


def prior_sentence(shift: pd.DataFrame) -> str | None:
    """A sentence with the numbers of the shifted classes; None where there are none.

    Args:
        shift: of `prior_shift`.
    """
    shifted = shift[shift["shifted"]]
    if shifted.empty:
        return None
    named = ", ".join(
        f"{row.code} {row.mean_probability:.1%} against {row.share:.1%} of the images "
        f"({row.ratio:.2g} times)"
        for row in shifted.itertuples()
    )
    return (
        f"The probabilities expect some classes more or less often than they come: {named}. "
        "Balancing, the focal loss and mixing do this, and so does a population unlike that of "
        "training. Ranking metrics do not see it, but the values are not frequencies here."
    )
