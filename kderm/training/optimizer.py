"""The optimizer of a phase: AdamW under a warm-up and cosine schedule."""

import keras


def build_optimizer(
    *,
    peak: float,
    steps: int,
    warmup: float,
    weight_decay: float,
    clip_norm: float | None,
    ema: float | None,
    accumulate: int,
) -> keras.optimizers.Optimizer:
    """AdamW; the rate rises linearly, then falls on a cosine to a hundredth of its peak.

    Biases and the scales and shifts of normalisation layers do not decay.

    Args:
        peak: highest learning rate.
        steps: batches of the whole phase.
        warmup: share of the steps that warm up, in [0, 1).
        weight_decay: decoupled decay (Loshchilov & Hutter 2019, arXiv:1711.05101).
        clip_norm: limit of the global gradient norm, or None.
        ema: momentum of an average of the weights, or None.
        accumulate: batches whose gradients make one update.
    """
    warmup_steps = int(warmup * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        decay_steps=max(1, steps - warmup_steps),
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
        alpha=0.01,
    )
    optimizer = keras.optimizers.AdamW(
        learning_rate=schedule,
        weight_decay=weight_decay,
        global_clipnorm=clip_norm,
        use_ema=ema is not None,
        ema_momentum=ema or 0.99,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        name="adamw",  # a fixed name, so that saved variables are found again by path
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Keras would write the averages over the weights at the end of each `fit`, so that a fold
    # resumed between two phases would start from other weights than an undisturbed one.
    optimizer.finalize_variable_values = lambda variables: None
    return optimizer


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, out of the loss scaling that float16 wraps around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def set_iterations(optimizer: keras.optimizers.Optimizer, steps: int) -> None:
    """Put the schedule where it is after `steps` batches of the phase."""
    inner_optimizer(optimizer)._iterations.assign(steps)
