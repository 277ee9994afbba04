"""The engine that is asked for, with the bundle's members in it.

Keras is imported only where it is needed: an exported ensemble answers without.
"""

from collections.abc import Callable

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.engines.record import Export, find_export
from kderm.errors import UserError, unknown_name
from kderm.runtime import check_backend

# Engine -> the precisions that it computes in, its own one first.
ENGINES: dict[str, tuple[str, ...]] = {
    "keras": ("float32", "bfloat16"),
    "onnx": ("float32", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
}


def check_engine(engine: str, precision: str) -> None:
    """Refuse an engine that does not exist or does not compute in `precision`.

    Raises:
        UserError: the nearest engine's name, or the engines that know the precision.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if precision not in ENGINES[engine]:
        others = [name for name, known in ENGINES.items() if precision in known]
        raise UserError(
            f"The engine {engine} computes in {' or '.join(ENGINES[engine])}. Received: the "
            f"precision {precision}. "
            + (f"Choose another engine for it: {' or '.join(others)}." if others else "")
        )


def open_engine(
    bundle: Bundle,
    engine: str = "keras",
    precision: str = "float32",
    *,
    batch_size: int,
    images: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """The engine, ready to answer; exported now if it has to be and was not.

    Args:
        bundle: the ensemble.
        engine: key of `ENGINES`.
        precision: one of its precisions.
        batch_size: images a forward pass.
        images: the most that a member is shown together, if that is known; fewer than a batch need
            no full one.
        say: told what is being done where it takes long.

    Raises:
        UserError: as `check_engine`, a package that is missing, or an export that fails.
    """
    check_engine(engine, precision)
    features = bundle.facts.unlike is not None
    if engine == "keras":
        check_backend()
        from kderm.ensemble.engines.keras_engines import keras_engine

        return keras_engine(bundle, batch_size, precision, features=features, images=images)
    import_engine(engine)
    found = find_export(bundle, engine, precision)
    if found is None:
        check_backend()
        from kderm.ensemble.engines.exports import export

        say(f"exporting the members for {engine} in {precision}; once, then they are kept")
        found = export(bundle, engine, precision)
        say(f"{found.directory}: {found.record.parity}")
    return engine_of(found, bundle, batch_size, features=features)


def import_engine(engine: str) -> None:
    """Make sure that an exported engine's package is there.

    Raises:
        UserError: it is not, and how to install it.
    """
    from kderm.ensemble.engines import exported_engines

    if engine == "onnx":
        exported_engines.import_onnxruntime()
    else:
        exported_engines.import_openvino()


def engine_of(export: Export, bundle: Bundle, batch_size: int, *, features: bool) -> Engine:
    """The engine that runs an export.

    Args:
        export: of the bundle's members.
        bundle: the ensemble.
        batch_size: images a forward pass.
        features: whether pooled features are wanted too.
    """
    from kderm.ensemble.engines.exported_engines import OnnxEngine, OpenVinoEngine

    size = bundle.facts.image.size
    if export.record.engine == "onnx":
        return OnnxEngine(export.files, size, batch_size, features=features)
    precision = "bfloat16" if export.record.precision == "bfloat16" else "float32"
    return OpenVinoEngine(export.files, size, batch_size, precision=precision, features=features)
