"""Labels of images from elsewhere, told in the classes of a run where that is possible for sure.

`kderm.ensemble.inputs` asks here for `evaluate --external`: another collection names its classes by
another label space, and has classes that the run never saw. Plain data in, plain data out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kderm.counting import counted
from kderm.label_maps import label_map
from kderm.labels import LABEL_SPACES, LabelSpace, plain

_SHOWN = 10


@dataclass(frozen=True)
class Counterparts:
    """What the spellings of all registered label spaces are in one label space.

    Attributes:
        labels: the label space as it is.
        reading: it, with every spelling of other spaces that means exactly one of its classes.
        outside: the other spellings of those spaces (plain) to why they mean none for sure.
        others: those spaces, most classes first.
    """

    labels: LabelSpace
    reading: LabelSpace
    outside: dict[str, str]
    others: tuple[LabelSpace, ...]

    def told(self, spellings: Sequence[str]) -> tuple[str, ...]:
        """A note for each spelling that needed a counterpart: how many images, and what it became.

        Args:
            spellings: of each image whose label was read, as it stands there.
        """
        foreign = [text for text in spellings if self.labels.resolve(text) is None]
        counts = Counter(map(plain, foreign)).most_common()
        shown = [self._note(text, count) for text, count in counts[:_SHOWN]]
        rest = counts[_SHOWN:]
        if rest:
            images = sum(count for _, count in rest)
            labels = counted(len(rest), "other label")
            shown.append(f"{counted(images, 'image')} with {labels} treated likewise")
        return tuple(shown)

    def _note(self, text: str, count: int) -> str:
        images = f"{counted(count, 'image')} labelled {text!r}"
        code = self.reading.resolve(text)
        if code is not None:
            return f"{images} taken for {code}"
        near = self.labels.nearest(text)
        guess = f" (nearest: {', '.join(near)})" if near else ""
        why = self.outside.get(text, f"{self.labels.name} has no such label{guess}")
        return f"{images} left out: {why}"


def counterparts(labels: LabelSpace) -> Counterparts:
    """What the spellings of other registered label spaces are in `labels`, by `kderm.label_maps`.

    A spelling that several spaces have counts only if all of them lead to the same single class.
    There is no way out of the space `binary`: benign and malignant are no diagnoses.
    """
    targets: dict[str, list[tuple[str, ...]]] = {}
    reasons: dict[str, str] = {}
    others = [space for space in LABEL_SPACES.values() if space.name not in (labels.name, "binary")]
    for space in others:
        between = label_map(space.name, labels.name)
        for code in space.codes:
            found = between.targets[code] if between else _by_name(code, space, labels)
            # An old run's label space may lack a code that the registered one has today.
            found = tuple(item for item in found if item in labels.codes)
            for text in _spellings(code, space):
                if labels.resolve(text) is None:
                    # Without a map, a space that does not know the class says nothing against it.
                    targets.setdefault(text, []).extend([found] if found or between else [])
                    if between and code in between.reasons:
                        reasons.setdefault(text, between.reasons[code])
    single = {
        text: found[0][0]
        for text, found in targets.items()
        if len({*found}) == 1 and len(found[0]) == 1
    }
    outside = {
        text: _why(sorted({code for codes in found for code in codes}), labels, reasons.get(text))
        for text, found in targets.items()
        if text not in single
    }
    reading = replace(labels, synonyms={**single, **labels.synonyms})
    others.sort(key=len, reverse=True)
    return Counterparts(labels, reading, outside, tuple(others))


def _by_name(code: str, space: LabelSpace, labels: LabelSpace) -> tuple[str, ...]:
    """Without a map (classes of the user's own): a class of the same code or full name."""
    names = (code, space.names[space.index(code)])
    return tuple(dict.fromkeys(filter(None, map(labels.resolve, names))))


def _spellings(code: str, space: LabelSpace) -> list[str]:
    own = (plain(code), plain(space.names[space.index(code)]))
    return [*dict.fromkeys((*own, *(text for text, to in space.synonyms.items() if to == code)))]


def _why(codes: list[str], labels: LabelSpace, reason: str | None) -> str:
    because = f" ({reason})" if reason else ""
    if codes:
        return f"in {labels.name} it may be {' or '.join(codes)}{because}"
    return f"it has no counterpart in {labels.name}{because}"
