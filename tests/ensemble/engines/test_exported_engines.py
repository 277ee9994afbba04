"""ONNX Runtime and OpenVINO, where they are installed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import kderm.ensemble.engines.onnx_file as onnx_file
from kderm.cli import main
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.engines import exported_engines
from kderm.ensemble.engines.choose import open_engine
from kderm.ensemble.engines.exports import compare_engines, export
from kderm.ensemble.engines.record import RECORD, export_directory, find_export
from kderm.errors import UserError
from kderm.labels import HAM10000
from kderm.storage.places import file_sha256

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs the extra openvino")
# Engine, precision, and the largest difference of a probability from Keras in float32.
EXPORTS = [
    ("onnx", "float32", 1e-5),
    ("onnx", "int8", 0.1),
    pytest.param("openvino", "float32", 1e-5, marks=openvino),
    pytest.param("openvino", "bfloat16", 0.1, marks=openvino),
    pytest.param("openvino", "int8", 0.1, marks=openvino),
]


@pytest.mark.parametrize(("engine", "precision", "most"), EXPORTS)
def test_an_exported_engine_answers_as_the_members_do(of_exported, engine, precision, most):
    bundle = read_bundle(of_exported.path)
    made = open_engine(bundle, engine, precision, batch_size=5)
    parity = find_export(bundle, engine, precision).record.parity
    assert parity.real
    assert parity.largest <= most
    usual = open_engine(bundle, batch_size=16)
    again = compare_engines(bundle, made, usual)
    assert again.largest <= most
    if precision != "float32":
        assert again.largest > 1e-6  # it is another arithmetic indeed


@pytest.mark.parametrize(("engine", "precision", "most"), EXPORTS)
def test_an_exported_engine_gives_the_features_too(of_exported, engine, precision, most):
    bundle = read_bundle(of_exported.path)
    frames = np.random.default_rng(0).integers(0, 256, (3, *bundle.frame, 3), dtype=np.uint8)
    plain = np.eye(2, 3, dtype=np.float32)
    words = []
    for name, kind in ((engine, precision), ("keras", "float32")):
        made = open_engine(bundle, name, kind, batch_size=2)
        words.append(made.round(made.look(frames, plain), None))
    for (_, own), (_, expected) in zip(*words, strict=True):
        assert own.shape == (3, 8)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(own, expected, atol=most * scale)


def test_a_prediction_is_the_same_by_every_engine(of_exported, predict, images, tmp_path):
    _, usual = predict(of_exported, [images], tmp_path / "keras", views="d4")
    _, other = predict(of_exported, [images], tmp_path / "onnx", views="d4", engine="onnx")
    columns = [*HAM10000.columns, "fold_sd", "unlike", "passes"]
    np.testing.assert_allclose(
        other[columns].astype(float), usual[columns].astype(float), atol=1e-4
    )
    assert usual["passes"].astype(int).tolist() == [3 * 8] * 9


def test_an_engine_that_was_not_exported_is_exported_once(telling, predict, images, tmp_path):
    _, first = predict(telling, [images], tmp_path / "first", engine="onnx")
    record = export_directory(read_bundle(telling.path), "onnx", "float32") / RECORD
    written = record.stat().st_mtime_ns
    _, second = predict(telling, [images], tmp_path / "second", engine="onnx")
    assert record.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("spoil", ["member", "file", "record", "features"])
def test_an_export_of_other_members_or_damaged_is_none(of_exported, spoil):
    bundle = read_bundle(of_exported.path)
    directory = export_directory(bundle, "onnx", "float32")
    assert find_export(bundle, "onnx", "float32") is not None
    record = json.loads((directory / RECORD).read_text())
    if spoil == "member":
        record["members"][0]["member_sha256"] = "0" * 64
    elif spoil == "file":
        (directory / "fold_1.onnx").write_bytes(b"other")
    elif spoil == "record":
        record["precision"] = 3
    else:
        record["features"] = False  # the bundle's score of unlike images needs them
    (directory / RECORD).write_text(json.dumps(record))
    assert find_export(bundle, "onnx", "float32") is None


def test_files_that_answer_otherwise_are_never_used(telling, monkeypatch):
    clean = onnx_file._clean

    def spoilt(raw, path):
        import onnx

        model = onnx.load(raw)
        for weight in model.graph.initializer:
            if len(weight.dims) == 2:
                values = onnx.numpy_helper.to_array(weight) * 1.5
                weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, raw)
        clean(raw, path)

    monkeypatch.setattr(onnx_file, "_clean", spoilt)
    bundle = read_bundle(telling.path)
    with pytest.raises(UserError, match="answers otherwise than the members do"):
        export(bundle, "onnx")
    assert find_export(bundle, "onnx", "float32") is None


def test_without_the_images_float32_is_compared_on_drawn_ones_and_int8_is_refused(
    trained, tmp_path
):
    import shutil

    run = Path(shutil.copytree(trained.path, tmp_path / "alone"))
    bundle = read_bundle(run)
    made = export(bundle, "onnx")
    assert not made.record.parity.real
    assert "drawn patterns" in str(made.record.parity)
    with pytest.raises(UserError, match="manifest"):
        export(bundle, "onnx", "int8")


def test_an_exported_ensemble_predicts_without_keras_and_torch(of_exported, images, tmp_path):
    code = (
        "import sys\nfrom kderm.cli import main\n"
        f"main(['ensemble-predict', {str(images / 'lesion_1.png')!r}, '--run', "
        f"{str(of_exported.path)!r}, '--engine', 'onnx', '--out', {str(tmp_path / 'out')!r}], "
        "standalone_mode=False)\n"
        "print(sorted({'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
    assert (tmp_path / "out" / "predictions.csv").exists()


def test_the_command_says_the_difference_and_the_next_command(telling):
    result = CliRunner().invoke(main, ["export", str(telling.path)])
    assert result.exit_code == 0, result.output
    assert "images of the run" in result.output
    assert f"ensemble-predict IMAGES --run {telling.path}" in result.output
    assert "--engine onnx" in result.output


def test_a_run_is_called_by_its_name_where_names_are_looked_for(telling, monkeypatch):
    monkeypatch.setenv("KDERM_RUNS", str(telling.path.parent))
    result = CliRunner().invoke(main, ["export", telling.path.name])
    assert f"--run {telling.path.name} --engine onnx\n" in result.output


def test_images_that_cannot_be_read_are_told_where_features_are_asked_for(
    telling, predict, tmp_path
):
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    summary, table = predict(telling, [tmp_path / "x.jpg"], tmp_path / "out")
    assert summary.unreadable == 1
    assert table.loc["x", "error"]


@pytest.mark.parametrize(("used", "workers"), [(True, 1), (False, 3)])
def test_a_gpu_build_without_a_gpu_computes_on_all_cores(monkeypatch, used, workers):
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    shapes = []

    class Session:
        def __init__(self, file, options, providers):
            self.providers = providers if used else [cpu]

        def get_providers(self):
            return self.providers

        def get_inputs(self):
            return [SimpleNamespace(name="pixels")]

        def get_outputs(self):
            return [SimpleNamespace(name="probabilities")]

        def run(self, wanted, given):
            shapes.append(len(given["pixels"]))
            return [np.ones((len(given["pixels"]), 1), np.float32)]

    fake = SimpleNamespace(
        get_available_providers=lambda: [cuda, cpu],
        SessionOptions=SimpleNamespace,
        InferenceSession=Session,
    )
    monkeypatch.setattr(exported_engines, "import_onnxruntime", lambda: fake)
    monkeypatch.setattr(exported_engines, "_cores", lambda: 3)
    engine = exported_engines.OnnxEngine([Path("a.onnx")], 4, batch_size=8)
    assert engine.workers == workers
    assert len(engine.ask(0, np.zeros((2, 4, 4, 3), np.float32), None)[0]) == 2
    assert shapes == [8 if used else 2]  # an accelerator is given batches of one shape


def test_an_export_is_made_on_the_cpu_whatever_the_device_is(telling):
    with keras.device("meta"):  # stands for a GPU: nothing could be computed there
        found = export(read_bundle(telling.path), "onnx")
    assert found.record.parity.largest < 1e-5


def other_network(file):
    """A network that opens and takes no pixels."""
    from onnx import TensorProto, helper, save

    one = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    node = helper.make_node("Relu", ["a"], ["b"])
    graph = helper.make_graph([node], "other", one[:1], one[1:])
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)


SPOILT = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "no network": lambda file: file.write_bytes(b"<html>not found</html>"),
    "another network": other_network,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("engine", ["onnx", pytest.param("openvino", marks=openvino)])
def test_a_file_that_the_engine_cannot_use_is_told_in_one_paragraph(
    of_exported, images, tmp_path, engine, how
):
    bundle = read_bundle(of_exported.path)
    directory = export(bundle, engine).directory
    file = directory / "fold_1.onnx"
    SPOILT[how](file)
    record = json.loads((directory / RECORD).read_text())
    record["members"][1]["sha256"] = file_sha256(file)  # so that it is not just exported anew
    (directory / RECORD).write_text(json.dumps(record))
    words = ["ensemble-predict", images, "--run", of_exported.path, "--engine", engine]
    result = CliRunner().invoke(main, [*map(str, words), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    assert "Expected a member in ONNX format" in result.output
    assert f"Received: {file} (" in result.output
    assert len(result.output.strip().splitlines()) < 4, result.output
    assert not (tmp_path / "out" / "predictions.csv").exists()
