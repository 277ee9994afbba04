"""The frozen operating points in plain words, and which one flags.

A point was chosen on the run's out-of-fold table; here it is only named. The chosen one decides
what is flagged on every tab.
"""

from kderm.app.lay_names import lay_name
from kderm.ensemble.bundle import Bundle
from kderm.evaluation.decisions.operating_points import MALIGNANT
from kderm.evaluation.decisions.points import FrozenPoint
from kderm.labels import LabelSpace

_RULES = {
    "youden": "balanced",
    "sensitivity": "to find {} of 100",
    "specificity": "to spare {} of 100 others",
    "cost": "a miss counts like {} false alarms",
}


def points_of(bundle: Bundle) -> list[FrozenPoint]:
    """The operating points, the bundle's own malignant threshold first; none for some bundles."""
    threshold = bundle.threshold
    points = bundle.operating_points
    first = [point for point in points if (point.target, point.value) == (MALIGNANT, threshold)]
    return first + [point for point in points if point not in first]


def point_named(bundle: Bundle, name: str | None) -> FrozenPoint | None:
    """The point called `name`, or the first one; None for a bundle without points."""
    points = points_of(bundle)
    named = [point for point in points if point.name == name]
    return (named or points or [None])[0]


def target_words(point: FrozenPoint, labels: LabelSpace) -> str:
    """What the point looks for: a class in plain words, or skin cancer of any kind."""
    return "Skin cancer" if point.target == MALIGNANT else lay_name(labels, point.target).name


def point_title(point: FrozenPoint, labels: LabelSpace) -> str:
    """The point in a few words: "Skin cancer, balanced"."""
    kind, _, level = point.rule.partition("_")
    return f"{target_words(point, labels)}, {_RULES.get(kind, point.rule).format(level)}"


def point_rates(point: FrozenPoint, labels: LabelSpace) -> str:
    """What the point found and wrongly flagged on the run's out-of-fold table."""
    found, alarms = _rates(point)
    return (
        f"on the held-out pictures that it was chosen on it found {found} of 100 pictures of "
        f"{target_words(point, labels).lower()} and flagged {alarms} of 100 others"
    )


def point_choice(point: FrozenPoint, labels: LabelSpace) -> str:
    """The point with its rates, to choose by."""
    found, alarms = _rates(point)
    return f"{point_title(point, labels)}: finds {found} of 100, false alarms {alarms} of 100"


def _rates(point: FrozenPoint) -> tuple[str, str]:
    return _of_100(point.sensitivity["value"]), _of_100(1 - point.specificity["value"])


def _of_100(share: float) -> str:
    """Rounded, but never to all or to none where it was not."""
    if 0.99 < share < 1:
        return "over 99"
    return "under 1" if 0 < share < 0.01 else f"{100 * share:.0f}"
