"""A config from YAML and `section.key=value` overrides, and what differs between two."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kderm.config.schema import Config
from kderm.counting import counted
from kderm.errors import UserError, nearest_names

# What the demo runs without a config: small enough for a laptop's CPU, on generated images.
DEMO = {
    "image": {"size": 48},
    "model": {"preset": "keras_cv/efficientnetv2_tiny", "weights": "none"},
    "train": {"epochs": 16, "frozen_epochs": 0, "batch_size": 16, "learning_rate": 3e-3},
}


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """The config in the YAML file `path`, with `section.key=value` overrides.

    Without a file the overrides change the defaults, or, while the data set is the demo, `DEMO`.

    Raises:
        UserError: unreadable file, unknown key (nearest known named), or a value out of range.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    values = json.loads(json.dumps(values, default=str))
    for override in overrides:
        _apply_override(values, override)
    data = values.get("data") or {}
    if path is None and data.get("dataset", "demo") == "demo" and not data.get("sources"):
        for section, defaults in DEMO.items():
            values[section] = defaults | (values.get(section) or {})
    return _validated(values, path)


def changed_config(config: Config, settings: Mapping[str, Any]) -> Config:
    """`config` with other values, by their keys as in `load_config`: {"train.epochs": 3}.

    Raises:
        UserError: as `load_config`.
    """
    values = config.model_dump(mode="json")
    for override in as_overrides(settings):
        _apply_override(values, override)
    return _validated(values, None)


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings by their keys as `load_config` takes them, `section.key=value` each."""
    return [f"{key}={json.dumps(value, default=_plain)}" for key, value in settings.items()]


def _plain(value: Any) -> Any:
    """What JSON has no word for: paths, sets, numbers of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else list(value)


def _validated(values: dict, path: str | Path | None) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, path)) from None


def config_difference(old: Config, new: Config) -> list[str]:
    """One line `section.key: old -> new` for each field that differs."""
    before, after = _flatten(old.model_dump(mode="json")), _flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _read_yaml(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = sorted(str(item) for item in Path("configs").glob("*.yaml"))
        raise UserError(
            f"Expected a readable YAML config. Received: {path} ({error.strerror}). "
            f"Configs here: {', '.join(known) or 'none'}."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The config {path} is not valid YAML: {error}") from None
    values = _expand(values)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"The config {path} must be a mapping of sections. Received: {values!r}")
    return values


def _expand(value: Any) -> Any:
    """Replace `${NAME:-default}` in every string by that environment variable or the default."""
    if isinstance(value, dict):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], value)
    return value


def _apply_override(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(
            "Expected overrides as section.key=value, for example train.epochs=3. "
            f"Received: {override!r}"
        )
    *sections, leaf = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise UserError(f"{section!r} in {override!r} is a value, not a section.")
    try:
        values[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"The value of the override {override!r} is not valid YAML: {error}"
        ) from None


def _explain(error: ValidationError, path: str | Path | None) -> str:
    known = _flatten(Config().model_dump(mode="json"))
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = nearest_names(key, [*known, *Config.model_fields])
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            lines.append(f"{key}: there is no such key.{hint}")
        else:
            lines.append(f"{key}: {problem['msg']}. Received: {problem['input']!r}")
    where = f"the config {path}" if path else "the overrides"
    return "\n  ".join([f"{counted(len(lines), 'problem')} in {where}:", *lines])


def _flatten(values: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
