"""Counts and shares as commands and the page say them."""


def counted(count: int, noun: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(probability: float) -> str:
    """Whole percents that claim no certainty."""
    if probability > 0.99:
        return "> 99 %"
    return "< 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"
