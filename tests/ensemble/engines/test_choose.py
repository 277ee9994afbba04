import builtins
import subprocess
import sys

import numpy as np
import pytest

from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.engines.choose import check_engine, open_engine
from kderm.ensemble.engines.exports import export
from kderm.errors import UserError
from kderm.labels import HAM10000


def test_an_unknown_engine_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'onnx'"):
        check_engine("onx", "float32")


def test_a_precision_that_an_engine_lacks_names_the_engines_that_have_it():
    with pytest.raises(UserError, match="for it: onnx or openvino"):
        check_engine("keras", "int8")
    with pytest.raises(UserError, match="for it: keras or openvino"):
        check_engine("onnx", "bfloat16")


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_that_is_not_installed_names_its_extra(trained, monkeypatch, engine):
    found = builtins.__import__

    def absent(name, *more):
        if name in ("onnxruntime", "openvino"):
            raise ImportError(name)
        return found(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{engine}\]'"):
        open_engine(read_bundle(trained.path), engine, batch_size=1)


def test_the_members_themselves_are_no_export(trained):
    with pytest.raises(UserError, match="nothing to export"):
        export(read_bundle(trained.path), "keras")


def test_bfloat16_in_keras_answers_nearly_as_float32_does(predict, trained, images, tmp_path):
    _, usual = predict(trained, [images], tmp_path / "usual")
    _, other = predict(trained, [images], tmp_path / "other", precision="bfloat16")
    columns = HAM10000.columns
    apart = np.abs(other[columns].astype(float) - usual[columns].astype(float)).to_numpy().max()
    assert 1e-6 < apart < 0.1


def test_an_early_exit_saves_passes_and_moves_the_answers_little(
    predict, trained, images, tmp_path
):
    _, every = predict(trained, [images], tmp_path / "every", views="d4")
    summary, early = predict(trained, [images], tmp_path / "e", views="d4", early_exit=0.05)
    assert early["passes"].astype(int).mean() < every["passes"].astype(int).mean() == 24
    assert set(early["passes"].astype(int) % 3) == {0}
    columns = HAM10000.columns
    apart = np.abs(early[columns].astype(float) - every[columns].astype(float)).to_numpy()
    assert apart.max() < 0.2
    assert "forward passes an image" in str(summary)


def test_what_is_slow_to_import_is_not_imported_by_a_prediction_without_labels():
    code = (
        "import sys\nimport kderm.commands.prediction, kderm.ensemble.predictor\n"
        "import kderm.ensemble.prevalence, kderm.ensemble.inputs, kderm.ensemble.engines.choose\n"
        "slow = {'keras', 'torch', 'tensorflow', 'jax', 'sklearn', 'matplotlib', 'scipy.stats',\n"
        "        'scipy.optimize', 'scipy.sparse.csgraph', 'rich'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_keras_starts_without_what_it_only_has_wrappers_for():
    """And they can be imported afterwards, as a report does."""
    code = (
        "import sys\nfrom kderm.runtime import check_backend\n"
        "print(check_backend())\n"
        "needless = {'sklearn', 'matplotlib', 'cv2', 'jax', 'requests', 'tensorflow', 'keras_cv'}\n"
        "print(sorted(needless & set(sys.modules) - {check_backend()}))\n"
        "import keras, matplotlib.figure, sklearn.linear_model\n"
        "print(keras.layers.Dense(2)(keras.ops.ones((1, 3))).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[1:2] == ["[]"], done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 3, done.stderr
