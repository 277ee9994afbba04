"""What all engines share: a full memory, and arguments that are alike."""

import inspect
import subprocess
import sys
import weakref

import numpy as np
import pytest

from kderm.ensemble.engines import engine as module
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.engines.exported_engines import OnnxEngine, OpenVinoEngine
from kderm.ensemble.engines.keras_engines import HostEngine, TorchEngine


class Full(Engine):
    """Has room for two images, and remembers what it held when it had none."""

    def __init__(self, workers):
        super().__init__(members=2, size=1, batch_size=8, workers=workers)
        self.kept = []

    def ask(self, member, pixels, metadata):
        activation = np.zeros(3)
        self.kept.append(weakref.ref(activation))
        if len(pixels) > 2:
            raise RuntimeError("CUDA out of memory")
        return np.full((len(pixels), 1), member), None


@pytest.mark.parametrize("workers", [1, 2])
def test_what_filled_the_memory_is_gone_when_it_is_given_back(workers, monkeypatch):
    engine, seen = Full(workers), []

    def release():
        seen.append([one() is None for one in engine.kept])

    monkeypatch.setattr(module, "release_memory", release)
    words = engine.round(np.zeros((5, 1, 1, 3), np.float32), None)
    assert [word.tolist() for word, _ in words] == [[[0]] * 5, [[1]] * 5]
    assert engine.batch_size == 2
    assert len(seen) == 2
    if workers == 1:  # a thread may still be at the batch that failed with the first
        assert all(all(gone) for gone in seen)


def test_an_error_of_another_kind_is_passed_on():
    class Broken(Full):
        def ask(self, member, pixels, metadata):
            raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        Broken(1).round(np.zeros((5, 1, 1, 3), np.float32), None)


def test_giving_memory_back_imports_no_backend():
    code = (
        "import sys\nfrom kderm.runtime import release_memory\nrelease_memory()\n"
        "print(sorted({'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("kind", [HostEngine, TorchEngine, OnnxEngine, OpenVinoEngine])
def test_engines_take_their_members_size_and_batch_size_in_one_order(kind):
    parameters = list(inspect.signature(kind).parameters.values())
    assert [one.name for one in parameters[1:3]] == ["size", "batch_size"]
    assert all(one.kind is one.KEYWORD_ONLY for one in parameters[3:])
