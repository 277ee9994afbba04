"""What the third tab tells of the ensemble: its model card and its out-of-fold report.

Both were written by the run. The report is one file with everything inside, shown in a frame that
runs no script. A bundle that was copied without them says so.
"""

import re
from html import escape

from kderm.counting import counted
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.settings import Settings
from kderm.html_page import data_uri
from kderm.run_dir import RunDir

MODEL_CARD = "MODEL_CARD.md"
REPORT = "report.html"
# Of the report's figures those of all images together, with what they show; for a bundle that was
# copied without the report, whose pages show single images.
FIGURES = (
    ("roc", "ROC curves, one class against the rest"),
    ("precision_recall", "Precision and recall"),
    ("confusion", "Confusion matrix"),
    ("reliability", "Reliability: what was said, and how often it was true"),
    ("operating_points", "Operating points"),
)

NOT_A_DEVICE = (
    "No medical device. This is research software. It is not cleared for diagnosis anywhere, and "
    "it can be wrong, also when it is sure. Show a spot that worries you to a doctor, whatever is "
    "said here."
)
STORES_NOTHING = (
    "Nothing is stored: a picture is deleted as soon as it was read, its EXIF data are not looked "
    "at but for which way is up, and answers are forgotten within a minute after the page is "
    "closed, or half an hour after its last action."
)


def card_markdown(bundle: Bundle) -> str:
    """The model card without its head for machines."""
    path = bundle.directory / MODEL_CARD
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return f"No model card lies beside this bundle ({MODEL_CARD})."
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()


def facts_markdown(bundle: Bundle, settings: Settings) -> str:
    """What answers here, in a few lines.

    Args:
        bundle: the ensemble.
        settings: how it answers.
    """
    facts = bundle.facts
    lines = [
        f"- **{facts.run}**: {counted(len(facts.members), 'network')}, views "
        f"`{settings.views}`, combined by `{settings.combine}`, engine `{settings.engine}` in "
        f"`{settings.precision}`.",
        f"- Early exit: a picture gets no further views once its probabilities are settled to "
        f"{settings.early_exit:g}." * bool(settings.early_exit),
        f"- Bundle digest `{bundle.digest[:12]}`, written by kderm {facts.kderm}.",
    ]
    if facts.synthetic:
        lines.insert(0, "- **SYNTHETIC DATA**: it learnt from pictures drawn by a program.")
    return "\n".join(line for line in lines if line)


def has_report(bundle: Bundle) -> bool:
    """Whether the run's report lies beside the bundle."""
    return (RunDir(bundle.directory).path / REPORT).is_file()


def figures_html(bundle: Bundle) -> str:
    """The out-of-fold figures as a part of the page; "" where there are none."""
    found = []
    for name, words in FIGURES:
        path = RunDir(bundle.directory).figures / f"{name}.png"
        if path.is_file():
            picture = data_uri(path.read_bytes(), "image/png")
            found.append(
                f'<figure><img src="{picture}" alt="{words}"><figcaption>{words}</figcaption>'
                "</figure>"
            )
    return f'<div class="kd-figures">{"".join(found)}</div>' if found else ""


def report_html(bundle: Bundle) -> str:
    """The out-of-fold report, in a frame of its own."""
    try:
        text = (bundle.directory / REPORT).read_text(encoding="utf-8")
    except OSError:
        return '<p class="kd-problem">No report lies beside this bundle.</p>'
    # Its own links to its sections are relative to the page otherwise.
    text = text.replace("<head>", '<head><base href="about:srcdoc">', 1)
    return (
        f'<iframe class="kd-report" title="Out-of-fold report" sandbox srcdoc="{escape(text)}">'
        "</iframe>"
    )
