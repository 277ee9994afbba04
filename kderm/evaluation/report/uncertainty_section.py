"""How sure the answers are: sets with a promised coverage, and what not answering would bring."""

from functools import partial

from kderm.evaluation.report import subgroup_figures
from kderm.evaluation.report.document import (
    Block,
    Estimate,
    Figure,
    Heading,
    Section,
    Share,
    Table,
    Text,
)
from kderm.evaluation.report.wording import percent

METHODS = {"lac": "LAC", "aps": "APS"}


def uncertainty_section(found: dict) -> Section:
    """Conformal sets, then the abstain curve."""
    return Section("Uncertainty", [*_conformal(found["conformal"]), *_abstain(found["abstain"])])


def _conformal(report: dict) -> list[Block]:
    head = Heading("Sets of diagnoses instead of one")
    if report["reason"]:
        return [head, Text(f"No sets: {report['reason']}")]
    words = (
        f"A conformal set is a list of diagnoses that holds the true one for about "
        f"{100 * report['coverage']:.0f} % of the images of "
        "every class, as far as new images are like these; the surer the ensemble, the smaller the "
        f"set. Judged here by {report['how']}."
    )
    names = {
        "coverage": "sets that hold the truth",
        "mean_size": "diagnoses a set",
        "single": "sets with one diagnosis",
        "single_right": "of these right",
        "empty": "empty sets",
    }
    methods = report["methods"]
    header = ["", *(METHODS.get(method, method) for method in methods)]
    rows = [
        [words_, *(Estimate.of(own[name]) for own in methods.values())]
        for name, words_ in names.items()
    ]
    if all(own["cleared"] for own in methods.values()):
        for name, said in (
            ("share", "sets without a malignant diagnosis"),
            ("malignant_missed", "malignant images with such a set"),
        ):
            cells = (Estimate.of(own["cleared"][name]) for own in methods.values())
            rows.append([said, *cells])
    return [head, Text(words), Table(header, rows, "conformal"), _class_sets(methods)]


def _class_sets(methods: dict) -> Table:
    header = ["class", "images"]
    for method in methods:
        name = METHODS.get(method, method)
        header += [f"coverage, {name}", f"diagnoses a set, {name}"]
    rows = []
    for code, first in next(iter(methods.values()))["per_class"].items():
        row = [code, first["n"]]
        for own in methods.values():
            numbers = own["per_class"][code]
            row += [Estimate.of(numbers["coverage"]), numbers["mean_size"]["value"]]
        rows.append(row)
    return Table(header, rows, "conformal_classes", "By class")


def _abstain(report: dict) -> list[Block]:
    best = report["by"][report["best"]]
    at = best["at"].get("0.8")
    words = (
        "Images ranked by how sure the answer is, and only the surest answered, the others left "
        "to a person."
    )
    if at is not None:
        words += (
            f" If the surest 80 % are answered (by {_ranking(report['best'])}), "
            f"{percent(at['accuracy'])} of the answers are right instead of "
            f"{100 * report['accuracy']:.0f} %."
        )
        if at["interest"]["value"] is not None:
            words += (
                f" But only {percent(at['interest'])} of the malignant images are among them: the "
                "hard ones are left."
            )
    draw = partial(subgroup_figures.plot_abstain, report=report)
    return [
        Heading("Answering only the sure ones"),
        Text(words),
        Figure(
            "abstain",
            "Accuracy against the share of images answered; bars: 95 % intervals",
            draw,
            860,
            panels=2,
        ),
        _abstain_table(report),
    ]


def _ranking(name: str) -> str:
    return subgroup_figures.RANKINGS.get(name, name.replace("_", " "))


def _abstain_table(report: dict) -> Table:
    marked = [at for own in report["by"].values() for at in own["at"].values()]
    interest = any(at["interest"]["value"] is not None for at in marked)
    header = ["surest first by", "answered", "accuracy", "balanced accuracy"]
    header += ["malignant answered"] * interest
    rows = [
        [
            _ranking(ranking),
            Share(float(share)),
            Estimate.of(at["accuracy"]),
            Estimate.of(at["balanced_accuracy"]),
            *([Estimate.of(at["interest"])] if interest else []),
        ]
        for ranking, own in report["by"].items()
        for share, at in own["at"].items()
    ]
    return Table(header, rows, "abstain", "All numbers")
