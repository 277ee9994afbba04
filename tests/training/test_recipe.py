import json

import numpy as np
import pandas as pd
import pytest

from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.models.classifier import load_classifier
from kderm.run_dir import RunDir
from kderm.training.crossval import cross_validate


def train(workplace, overrides, name="run", folds=(0,)):
    run = RunDir(workplace / "runs" / name)
    cross_validate(load_config(None, overrides), run, folds=folds)
    return run


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["balance.by=[sampler, repeat]", "balance.repeat={mel: 5}"], "they cancel"),
        (["balance.by=[repeat]"], "multipliers"),
        (["loss.name=binary_cross_entropy"], "two classes"),
        (["model.metadata=[dx_type]"], "dx_type"),
        (["model.metadata=[shoe_size]"], "age, sex, site"),
        (["train.checkpoint=ema"], "train.ema"),
        (["loss.name=ldam", "loss.label_smoothing=0.1"], "margin in place of"),
        (["augment.mixup=0.7", "augment.cutmix=0.7"], "mixup"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused_before_anything_is_written(
    workplace, tiny_overrides, overrides, words
):
    with pytest.raises(UserError, match=words):
        train(workplace, [*tiny_overrides, *overrides])
    assert list(workplace.iterdir()) == []


def test_event_files_without_the_extra_are_refused_with_its_name(
    workplace, tiny_overrides, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"\.\[tensorboard\]"):
        train(workplace, [*tiny_overrides, "train.tensorboard=true"])


def test_balancing_that_stacks_is_warned_of_with_the_shares_it_makes(
    workplace, tiny_overrides, capsys
):
    stacked = ["balance.by=[sampler, weights]", "balance.scheme=balanced", "train.epochs=1"]
    train(workplace, [*tiny_overrides, *stacked])
    said = capsys.readouterr().err
    assert "favoured twice" in said
    assert "nv" in said


def test_best_last_and_average_are_kept_as_members_of_their_own(workplace, tiny_overrides):
    overrides = ["train.ema=0.8", "train.keep=true", "train.checkpoint=ema"]
    place = train(workplace, [*tiny_overrides, *overrides]).fold(0)
    kept = {kind: load_classifier(place.kept(kind)) for kind in ("best", "last", "ema")}
    chosen = load_classifier(place.model)

    def flat(model):
        return np.concatenate([np.ravel(weight) for weight in model.get_weights()])

    np.testing.assert_array_equal(flat(chosen), flat(kept["ema"]))
    assert not np.allclose(flat(kept["ema"]), flat(kept["last"]))
    history = pd.read_csv(place.history)
    assert {"val_macro_auc", "ema_macro_auc"} <= set(history.columns)
    assert history.loc[history["chosen"] == 1, "epoch"].tolist() == [3]
    assert not list(place.path.glob("*.npz"))


def test_a_plateau_lowers_the_rate_and_a_better_epoch_does_not(
    workplace, tiny_overrides, monkeypatch
):
    scores = iter([0.5, 0.6, 0.6, 0.7, 0.6, 0.6, 0.6])
    monkeypatch.setattr(
        "kderm.training.fold.epoch_metrics",
        lambda y, p: {"macro_auc": next(scores), "balanced_accuracy": 0.5, "macro_f1": 0.5},
    )
    overrides = ["train.schedule=plateau", "train.decay=0.5", "train.decay_epochs=1"]
    overrides += ["train.frozen_epochs=0", "train.epochs=6", "train.learning_rate=0.01"]
    history = pd.read_csv(train(workplace, [*tiny_overrides, *overrides]).fold(0).history)
    expected = [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025]
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-6)


def test_the_lowest_held_out_loss_is_the_best(workplace, tiny_overrides):
    history = pd.read_csv(train(workplace, [*tiny_overrides, "train.monitor=loss"]).fold(0).history)
    assert history.loc[history["chosen"] == 1, "val_loss"].item() == history["val_loss"].min()


def test_event_files_hold_the_history_once_even_after_an_interruption(workplace, tiny_overrides):
    overrides = [*tiny_overrides, "train.tensorboard=true"]
    place = train(workplace, overrides).fold(0)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place.tensorboard))
    events.Reload()
    history = pd.read_csv(place.history)
    for tag, column in (("train/loss", "loss"), ("held_out/macro_auc", "val_macro_auc")):
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == history["epoch"].tolist()
        np.testing.assert_allclose([s.value for s in scalars], history[column], rtol=1e-6)


def test_repeated_images_make_a_longer_epoch(workplace, tiny_overrides):
    few = ["train.epochs=1", "train.frozen_epochs=0"]
    plain = train(workplace, [*tiny_overrides, *few], "plain")
    repeated = train(
        workplace,
        [*tiny_overrides, *few, "balance.by=[repeat]", "balance.repeat={nv: 4}"],
        "repeated",
    )
    # Both saw each training image; one saw nevi four times, so its loss is another one.
    losses = [pd.read_csv(run.fold(0).history)["loss"].item() for run in (plain, repeated)]
    done = [json.loads(run.fold(0).done.read_text()) for run in (plain, repeated)]
    assert done[0]["train_images"] == done[1]["train_images"]
    assert losses[0] != losses[1]


def test_a_member_that_sees_metadata_is_scored_with_them(workplace, tiny_overrides):
    place = train(workplace, [*tiny_overrides, "model.metadata=[age, sex, site]"]).fold(0)
    member = load_classifier(place.model)
    assert [tensor.name for tensor in member.inputs] == ["image", "metadata"]
    assert len(pd.read_csv(place.oof)) == json.loads(place.done.read_text())["held_out_images"]


def test_half_precision_scales_its_loss_and_others_do_not(workplace, tiny_overrides):
    from keras.optimizers import LossScaleOptimizer

    from kderm.data.prepare import prepare
    from kderm.training.fold import begin, compile_phase, new_task, phases

    config = load_config(None, tiny_overrides)
    data = prepare(config)
    for precision, scaled in (("float16", True), ("bfloat16", False), ("float32", False)):
        place = RunDir(workplace / "runs" / precision).fold(0)
        task = new_task(config, data, place, 0, precision)
        model, _ = compile_phase(task, begin(task), phases(config)[1])
        assert isinstance(model.optimizer, LossScaleOptimizer) == scaled


def test_options_without_effect_are_told_with_what_switches_them_on(
    workplace, tiny_overrides, capsys
):
    idle = ["loss.gamma=3", "train.schedule=one_cycle", "train.warmup=0.2", "train.epochs=1"]
    train(workplace, [*tiny_overrides, *idle])
    said = capsys.readouterr().err
    assert "loss.gamma=3.0 has no effect here: it takes loss.name=focal" in said
    assert "train.warmup=0.2 has no effect" in said
    assert said.count("has no effect") == 2


def test_a_run_refuses_to_go_on_with_other_pseudo_labels(workplace, tiny_overrides):
    train(workplace, [*tiny_overrides, "train.epochs=1"], "plain")
    images = sorted(workplace.rglob("*.jpg"))[:2]
    table = pd.DataFrame({"image_id": ["a", "b"], "path": images, "label": ["mel", "nv"]})
    table.to_csv("pseudo.csv", index=False)
    overrides = [*tiny_overrides, "train.epochs=1", "data.pseudo_labels=pseudo.csv"]
    train(workplace, overrides, "taught")
    table.assign(label=["nv", "nv"]).to_csv("pseudo.csv", index=False)
    with pytest.raises(UserError, match="other pseudo-labels"):
        train(workplace, overrides, "taught", folds=[1])
