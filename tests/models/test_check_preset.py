"""The check before a run: every mistake that a build would find, found without Keras."""

import os
import socket
import subprocess
import sys
import zipfile

import pytest

from kderm.errors import UserError
from kderm.models.weights import check_preset

TINY = "keras_cv/efficientnetv2_tiny"
ON_KAGGLE = "keras_cv/efficientnetv2_b0_imagenet"
ON_A_BUCKET = "keras_applications/efficientnetb0"
pytestmark = pytest.mark.usefixtures("empty_machine", "no_network")


@pytest.fixture
def saved(tmp_path):
    """A file that has the looks of a Keras model."""
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    return path


@pytest.mark.parametrize(
    ("preset", "size", "weights", "message"),
    [
        ("keras_cv/efficientnetv2_tinny", 64, "none", "keras_cv/efficientnetv2_tiny"),
        (TINY, 16, "none", "at least 32 pixels"),
        (TINY, 64, "preset", "architecture without pretrained weights"),
        ("keras_cv/efficientnetv2_b0", 64, "preset", f"but {ON_KAGGLE} has"),
        (TINY, 64, "absent.weights.h5", "absent.weights.h5 is not there"),
        (TINY, 64, ".", r"Expected a preset folder with model\.weights\.h5"),
        ("file/absent.keras", 64, "preset", "absent.keras, which is not there"),
        ("file/absent.keras", 64, "none", "absent.keras, which is not there"),
        ("file/net.h5", 64, "preset", r"Expected file/PATH\.keras"),
        (ON_KAGGLE, 64, "preset", "kaggle://.* failed: .*Network is unreachable"),
        (ON_A_BUCKET, 64, "preset", "https://.* failed: .*Network is unreachable"),
    ],
)
def test_a_mistake_is_refused_as_a_build_refuses_it(preset, size, weights, message, workplace):
    with pytest.raises(UserError, match=message) as checked:
        check_preset(preset, size, weights)
    from kderm.models.classifier import build_classifier

    with pytest.raises(UserError) as built:
        build_classifier(preset, size, 3, weights=weights)
    assert str(checked.value) == str(built.value)


def test_a_library_that_is_not_installed_is_named_as_a_build_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[hub\]'") as checked:
        check_preset("keras_hub/resnet_18_imagenet", 64, "none")
    from kderm.models.classifier import build_classifier

    with pytest.raises(UserError) as built:
        build_classifier("keras_hub/resnet_18_imagenet", 64, 3, weights="none")
    assert str(checked.value) == str(built.value)


def test_a_file_that_is_no_keras_model_is_refused(tmp_path):
    (tmp_path / "net.keras").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"saved with model\.save"):
        check_preset(f"file/{tmp_path / 'net.keras'}", 64, "preset")


def test_a_saved_model_takes_its_own_weights_none_or_those_of_a_file(saved, tmp_path, no_network):
    for weights in ("preset", "none"):
        check_preset(f"file/{saved}", 64, weights)
    with pytest.raises(UserError, match="is not there"):
        check_preset(f"file/{saved}", 64, str(tmp_path / "absent.weights.h5"))
    (tmp_path / "other.weights.h5").write_bytes(b"")
    check_preset(f"file/{saved}", 64, str(tmp_path / "other.weights.h5"))
    assert no_network == []


@pytest.mark.parametrize(
    ("preset", "place"),
    [
        (ON_KAGGLE, f"weights/{ON_KAGGLE}/model.weights.h5"),
        (
            ON_KAGGLE,
            "kagglehub/models/keras/efficientnetv2/keras/efficientnetv2_b0_imagenet/2/"
            "model.weights.h5",
        ),
        (ON_A_BUCKET, "keras/models/efficientnetb0_notop.h5"),
    ],
)
def test_weights_on_this_machine_need_no_network(preset, place, tmp_path, no_network):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    check_preset(preset, 64, "preset")
    assert no_network == []


def test_weights_to_be_fetched_pass_when_their_host_answers(tmp_path, monkeypatch):
    asked = []

    def answer(address, timeout):
        asked.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", answer)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    check_preset(ON_KAGGLE, 64, "preset")
    check_preset(ON_A_BUCKET, 64, "preset")
    assert asked == [("www.kaggle.com", 443), ("storage.googleapis.com", 443)]
    assert not (tmp_path / "weights").exists()


def test_random_weights_ask_nobody(no_network):
    check_preset(ON_KAGGLE, 64, "none")
    assert no_network == []


def test_the_check_loads_no_network_library(saved):
    code = (
        "import sys; from kderm.models.weights import check_preset;"
        f"check_preset({TINY!r}, 64, 'none'); check_preset({f'file/{saved}'!r}, 64, 'preset');"
        "print(sorted({'keras', 'keras_cv', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
