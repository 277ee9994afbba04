"""Answers as HTML: a card a picture, with bars, flag, agreement, doubts, and the map's slider.

Pictures stand in the HTML itself, so no file is served and the slider needs no server. Whatever
came from outside (file names, class names) is escaped. Knows answers; no model.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from kderm.app.answers import Answer, Answered, flag_of
from kderm.app.lay_names import lay_name
from kderm.app.points import point_rates, point_title, target_words
from kderm.counting import counted, percent
from kderm.ensemble.bundle import Bundle
from kderm.evaluation.decisions.points import FrozenPoint
from kderm.labels import LabelSpace

_SLIDE = (
    "this.closest('figure').querySelector('.kd-map').style.opacity=this.value/100;"
    "this.setAttribute('aria-valuetext',this.value+' % map')"
)
# How much of the map is seen at first, in percent.
_FIRST_SEEN = 50


def answers_html(
    answered: Answered, bundle: Bundle, point: FrozenPoint | None, one_lesion: bool = False
) -> str:
    """All answers of a request.

    Args:
        answered: what was said.
        bundle: who said it.
        point: which operating point flags; None for a bundle without points.
        one_lesion: whether the pictures are said to show one lesion.
    """
    together = one_lesion and answered.lesion is not None
    cards = [_lesion_card(answered, bundle, point)] if together else []
    cards += [
        _card(answer, number, bundle, point) for number, answer in enumerate(answered.photos, 1)
    ]
    cautions = message_list(answered.notes, "kd-cautions")
    return (
        '<section class="kd-answers" tabindex="-1" aria-label="Answers">'
        f"{''.join(cards)}{cautions}</section>"
    )


def message_list(messages: Sequence[str], kind: str) -> str:
    """Sentences as a list; "" for none."""
    items = "".join(f"<li>{escape(_sentence(message))}</li>" for message in messages)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def problem_html(sentence: str) -> str:
    """One sentence that says what is wrong."""
    return f'<p class="kd-problem" role="alert">{escape(sentence)}</p>'


def _lesion_card(answered: Answered, bundle: Bundle, point: FrozenPoint | None) -> str:
    answer = answered.lesion
    count = int(answer.row["images"])
    agreeing = round(answer.row["images_agree"] * count)
    facts = [
        f"The mean of {counted(count, 'picture')}. Those with the same answer alone: {agreeing} of "
        f"{count}.",
        "The flag's threshold was chosen on single pictures.",
    ]
    return _article(
        f"The lesion, from {counted(count, 'picture')} together",
        "kd-card kd-lesion",
        _flag(answer, bundle, point) + _best(answer, bundle.labels),
        _bars(answer, bundle.labels),
        message_list(facts, "kd-facts"),
    )


def _card(answer: Answer, number: int, bundle: Bundle, point: FrozenPoint | None) -> str:
    name = f"{number}. {answer.name}"
    if answer.error:
        return _article(name, "kd-card", problem_html(answer.error))
    figure = _figure(answer, bundle.labels)
    bars = _bars(answer, bundle.labels)
    two = f'<div class="kd-two">{figure}<div>{bars}</div></div>'
    return _article(
        name,
        "kd-card",
        _flag(answer, bundle, point) + _best(answer, bundle.labels),
        two,
        message_list(answer.warnings, "kd-warnings"),
        message_list(_facts(answer, bundle), "kd-facts"),
    )


def _article(heading: str, kind: str, *parts: str) -> str:
    return f'<article class="{kind}"><h3>{escape(heading)}</h3>{"".join(parts)}</article>'


def _best(answer: Answer, labels: LabelSpace) -> str:
    code = answer.row["predicted"]
    lay, full = lay_name(labels, code), labels.names[labels.index(code)]
    medical = f"{full}. " if full != lay.name else ""
    about = f"{medical}{lay.about[:1].upper()}{lay.about[1:]}".strip()
    probability = percent(answer.row[f"p_{code}"])
    return (
        f'<p class="kd-best">Most likely: <strong>{escape(lay.name)}</strong>, {probability}'
        f"<small>{escape(about)}</small></p>"
    )


def _flag(answer: Answer, bundle: Bundle, point: FrozenPoint | None) -> str:
    flagged = flag_of(answer, point)
    if flagged is None:
        return '<p class="kd-flag">No operating point: nothing is flagged.</p>'
    target = target_words(point, bundle.labels).lower()
    rates = f"{point_title(point, bundle.labels)}: {point_rates(point, bundle.labels)}."
    if flagged:
        words, kind = f"⚑ Flagged: may be {target}", "kd-flag kd-on"
    else:
        words, kind = f"Not flagged for {target}", "kd-flag kd-off"
    return f'<p class="{kind}"><b>{escape(words)}</b><small>{escape(rates)}</small></p>'


def _bars(answer: Answer, labels: LabelSpace) -> str:
    order = sorted(labels.codes, key=lambda code: -answer.row[f"p_{code}"])
    rows = "".join(_bar(code, answer.row[f"p_{code}"], labels) for code in order)
    return (
        '<table class="kd-bars"><caption>How probable each kind is</caption>'
        '<colgroup><col class="kd-what"><col><col class="kd-percent"></colgroup>'
        '<thead class="kd-unseen"><tr><th>Kind</th><th>Bar</th><th>Probability</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _bar(code: str, probability: float, labels: LabelSpace) -> str:
    lay, full = lay_name(labels, code), labels.names[labels.index(code)]
    medical = f"<small>{escape(full)}</small>" if full != lay.name else ""
    malignant = code in labels.malignant
    mark = ' <span class="kd-malignant">malignant</span>' if malignant else ""
    kind = "kd-bar kd-bad" if malignant else "kd-bar"
    return (
        f'<tr><th scope="row">{escape(lay.name)}{mark}{medical}</th>'
        f'<td aria-hidden="true"><span class="{kind}" style="width:{100 * probability:.1f}%">'
        f"</span></td><td>{percent(probability)}</td></tr>"
    )


def _figure(answer: Answer, labels: LabelSpace) -> str:
    shown = answer.shown
    if shown is None:
        return ""
    name = lay_name(labels, shown.target).name if shown.target in labels.codes else "skin cancer"
    name = escape(name)
    odd = "".join(f" Look twice: {escape(flag)}." for flag in shown.flags)
    return (
        '<figure class="kd-blend"><div class="kd-stack">'
        f'<img src="{shown.picture}" alt="The picture {escape(answer.name)}">'
        f'<img class="kd-map" src="{shown.overlay}" style="opacity:{_FIRST_SEEN / 100}" '
        f'alt="Map of what speaks for {name}: grey where nothing does"></div>'
        '<label class="kd-slide"><span>Picture</span>'
        f'<input type="range" min="0" max="100" step="5" value="{_FIRST_SEEN}" '
        f'oninput="{_SLIDE}" aria-label="From the picture to the map" '
        f'aria-valuetext="{_FIRST_SEEN} % map"><span>Map</span></label>'
        f"<figcaption>In colour on the map: what speaks for “{name}”. Pale: not looked at. A "
        "coarse hint, no outline."
        f'<b class="kd-odd">{odd}</b></figcaption></figure>'
    )


def _facts(answer: Answer, bundle: Bundle) -> list[str]:
    row, members = answer.row, len(bundle.facts.members)
    facts = []
    if members > 1:
        votes = round(row["vote_agreement"] * members)
        # Before calibration, and the largest group need not be the one that the answer follows.
        facts.append(
            f"The largest group of networks that say the same by themselves: {votes} of {members}. "
            "What they say on average has a probability that differs between them by "
            f"± {100 * row['fold_sd']:.0f} points before calibration."
        )
    if bundle.conformal is not None:
        facts.append(_set_words(row, bundle))
    return facts


def _set_words(row: dict[str, Any], bundle: Bundle) -> str:
    """The classes that hold the truth with the bundle's coverage, and why the likeliest may miss.

    Every class has its own threshold, so a common one can be likeliest and yet less probable than
    it usually is when it is true.
    """
    labels, codes = bundle.labels, row["conformal_set"].split()
    names = [lay_name(labels, code).name for code in codes]
    which = f"“{'” or “'.join(names)}”" if names else "none of them, a reason to doubt"
    words = f"Kinds that fit at {100 * bundle.conformal.coverage:.0f} % coverage: {which}."
    if names and row["predicted"] not in codes:
        own = lay_name(labels, row["predicted"]).name
        words += f" A true “{own}” usually gets a higher probability than this one."
    return words


def _sentence(words: str) -> str:
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
