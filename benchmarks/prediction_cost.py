"""What precision and early exit cost in AUC, and what an early exit saves, on a run's real images.

    python benchmarks/prediction_cost.py RUN --engines keras:bfloat16,openvino:int8 --images 2000
    python benchmarks/prediction_cost.py RUN --external labelled.csv

Out of fold: each image by the one member that held it out, in all views of d4, so an early exit can
save at most 4 of 8 passes. With --external all members answer labelled images from elsewhere. The
reference is every pass by the members in float32; differences of AUC are paired, their 95 %
intervals from resampling lesions. Times are those of this machine; for ratios see prediction.py.
"""

import argparse
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

METRICS = {"macro_auc": "macro AUC", "auc/mel": "melanoma AUC", "malignant_auc": "malignant AUC"}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--engines", default="", help="ENGINE:PRECISION, with commas between")
    parser.add_argument("--reference", default="keras", help="engine of the float32 reference")
    parser.add_argument("--early-exit", default="0.01,0.02,0.03,0.04", help="tolerances")
    parser.add_argument("--views", default="d4")
    parser.add_argument("--images", type=int, default=2000, help="held-out images, about; 0: all")
    parser.add_argument("--external", nargs="*", default=[], help="labelled images instead")
    parser.add_argument("--batch", type=int, default=32)
    return parser.parse_args()


def one_member(engine, member):
    """An engine of one of another's members."""
    from kderm.ensemble.engines.engine import Engine

    class OneMember(Engine):
        def __init__(self):
            super().__init__(1, engine.size, engine.batch_size)
            self.look, self.turned, self.joined = engine.look, engine.turned, engine.joined

        def ask(self, _, pixels, metadata):
            return engine.ask(member, pixels, metadata)

    return OneMember()


def held_out_images(bundle, images):
    """For each member its frames and metadata; and labels and groups of them all, in order."""
    import pandas as pd

    from kderm.ensemble.group_parts import some_groups
    from kderm.ensemble.held_out import RunFrames, held_out, read_oof
    from kderm.run_dir import RunDir

    shown, tables = [], []
    run = RunFrames(RunDir(bundle.directory), bundle)
    parts = held_out(bundle, read_oof(bundle))
    for part in parts:
        table = part.table
        if images:
            each = -(-images // len(parts))
            table = table[some_groups(table["group_id"].to_numpy(), each)]
        frames = np.concatenate(list(run.chunks(table["image_id"].tolist(), 256)))
        shown.append((frames, None if bundle.metadata is None else bundle.metadata.encode(table)))
        tables.append(table)
    joined = pd.concat(tables)
    return shown, joined["label"].tolist(), joined["group_id"].to_numpy()


def external_images(bundle, sources):
    """The same of labelled images from elsewhere, which all members see."""
    from kderm.data.folds import group_ids
    from kderm.data.images import read_image
    from kderm.ensemble.inputs import find_inputs

    table = find_inputs(sources, bundle.labels, translate=True).table
    table = table[(table["label"] != "") & (table["problem"] == "")].reset_index(drop=True)
    frames = np.stack([read_image(path, bundle.spec) for path in table["path"]])
    metadata = None if bundle.metadata is None else bundle.metadata.encode(table)
    return (frames, metadata), table["label"].tolist(), group_ids(table).to_numpy()


class Asker:
    """Asks engines about the images, with and without an early exit."""

    def __init__(self, arguments, bundle):
        self.arguments, self.bundle = arguments, bundle
        if arguments.external:
            shown, self.labels, self.groups = external_images(bundle, arguments.external)
            self.shown = [(None, *shown)]
        else:
            shown, self.labels, self.groups = held_out_images(bundle, arguments.images)
            self.shown = [(member, *images) for member, images in enumerate(shown)]

    def every_pass(self, engine, precision):
        """float32 (n, m, v, k): m is 1 out of fold."""
        from kderm.data.views import view_transforms
        from kderm.ensemble.engines.choose import open_engine
        from kderm.ensemble.passes import Exit, Passes

        bundle = self.bundle
        whole = open_engine(bundle, engine, precision, batch_size=self.arguments.batch, say=print)
        transforms, found = view_transforms(self.arguments.views, bundle.frame), []
        for member, frames, metadata in self.shown:
            made = whole if member is None else one_member(whole, member)
            passes = Passes(made, transforms, len(bundle.labels), Exit(0.0, ()))
            found.append(passes(frames, metadata).probabilities)
        return np.concatenate(found)

    def leaving_early(self, passes, tolerance):
        """What an early exit would have made of all passes: float (n, k), and int (n,) rounds."""
        from kderm.ensemble.early_exit import settled

        views, malignant = passes.shape[2], tuple(self.bundle.labels.malignant_indices)
        rounds, active = np.full(len(passes), views), np.arange(len(passes))
        for seen in range(1, views if tolerance else 1):
            done = settled(passes[active][:, :, :seen], malignant, tolerance, 1 - seen / views)
            rounds[active[done]] = seen
            active = active[~done]
        means = [one[:, :seen].mean(axis=(0, 1)) for one, seen in zip(passes, rounds, strict=True)]
        return np.stack(means).astype(np.float64), rounds


def differences(labels, groups, space, answers):
    """{name: {metric: (difference to the first, low, high)}}."""
    from kderm.evaluation.intervals import batched, group_intervals
    from kderm.evaluation.metrics import Scorecard

    y = np.array([space.index(label) for label in labels])
    cards = {name: Scorecard(y, one / one.sum(1, keepdims=True), space) for name, one in answers}
    first = next(iter(cards))

    @batched
    def gain(weights):
        scores = {name: card(weights) for name, card in cards.items()}
        return {
            f"{name}|{metric}": scores[name][metric] - scores[first][metric]
            for name in cards
            for metric in METRICS
        }

    values = {name: both[0] for name, both in gain(np.ones((1, len(y)))).items()}
    ends = group_intervals(gain, groups, resamples=1000)
    base = cards[first](np.ones(len(y)))
    print("all passes in float32: " + ", ".join(f"{METRICS[m]} {base[m]:.4f}" for m in METRICS))
    return {
        name: {m: (values[f"{name}|{m}"], ends[f"{name}|{m}"]) for m in METRICS} for name in cards
    }


def main() -> None:
    """Ask, compare, print a Markdown table."""
    arguments = parse()
    from kderm.ensemble.bundle import read_bundle
    from kderm.runtime import keep_freed_memory

    keep_freed_memory()
    bundle = read_bundle(arguments.run)
    asker = Asker(arguments, bundle)
    engines = [(arguments.reference, "float32")]
    engines += [tuple(word.split(":")) for word in arguments.engines.split(",") if word]
    tolerances = [float(word) for word in arguments.early_exit.split(",") if word]
    answers, told = [], {}
    for engine, precision in engines:
        passes = asker.every_pass(engine, precision)
        for tolerance in (0.0, *tolerances):
            name = f"{engine} {precision}" + (f", early exit {tolerance:g}" if tolerance else "")
            means, rounds = asker.leaving_early(passes, tolerance)
            answers.append((name, means))
            told[name] = rounds.mean() * passes.shape[1], passes.shape[1] * passes.shape[2]
    rows = differences(asker.labels, asker.groups, bundle.labels, answers)
    reference = answers[0][1]
    print(
        "\n| | passes of | saving | " + " | ".join(METRICS.values()) + " | same class | largest |"
    )
    print("|---|---|---|" + "---|" * len(METRICS) + "---|---|")
    for name, means in answers:
        used, most = told[name]
        cells = [
            f"{value:+.4f} ({ends.low:+.4f} to {ends.high:+.4f})"
            for value, ends in rows[name].values()
        ]
        same = (means.argmax(1) == reference.argmax(1)).mean()
        print(
            f"| {name} | {used:.1f} of {most} | {most / used:.2f} | {' | '.join(cells)} | "
            f"{same:.1%} | {np.abs(means - reference).max():.2f} |"
        )


if __name__ == "__main__":
    main()
