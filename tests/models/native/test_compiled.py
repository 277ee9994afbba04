"""The library of kernels: made once for a machine, and never in the way where it cannot be made."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kderm.models.native import compiled

pytestmark = pytest.mark.skipif(compiled.library() is None, reason="needs Linux and a C++ compiler")
LINE = "compiling the kernels for this processor"


def make():
    """The library as a new process would find or make it."""
    return compiled._found.__wrapped__()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_FLAGS", ("-O0", "-fopenmp", "-shared", "-fPIC"))  # quick
    folder = tmp_path / "cache" / "kderm" / "kernels"
    folder.mkdir(parents=True)
    return folder


def kept_in(folder):
    """Where the library of this machine is kept."""
    return folder / f"kernels_{compiled._key(compiled._compiler())}.so"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A function that puts another compiler in place, a shell script."""

    def put(script):
        path = tmp_path / "compiler"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))

    return put


def test_the_first_use_says_that_it_compiles_and_the_second_compiles_nothing(cache, capsys):
    assert make() is not None
    assert capsys.readouterr().out.count(LINE) == 1
    (path,) = cache.iterdir()
    written = path.stat().st_mtime_ns
    assert make() is not None
    assert capsys.readouterr().out == ""
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("changed", ["_processor", "_FLAGS", "compiler", "_SOURCE"])
def test_another_processor_compiler_flag_or_source_has_a_library_of_its_own(
    cache, changed, compiler, monkeypatch, tmp_path
):
    make()
    if changed == "_processor":
        monkeypatch.setattr(compiled, "_processor", lambda: "flags: another")
    elif changed == "_FLAGS":
        monkeypatch.setattr(compiled, "_FLAGS", (*compiled._FLAGS, "-O2"))
    elif changed == "_SOURCE":
        path = tmp_path / "kernels.cpp"
        path.write_text(compiled._SOURCE.read_text() + "\n")
        monkeypatch.setattr(compiled, "_SOURCE", path)
    else:
        compiler(f'exec {shutil.which("c++") or "g++"} "$@"')
    make()
    assert len(list(cache.iterdir())) == 2


def test_two_processes_at_once_both_have_it_and_leave_one_file(cache):
    code = "from kderm.models.native.compiled import library\nprint(library() is not None)"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate()[0].endswith("True\n")
    assert len(list(cache.iterdir())) == 1


@pytest.fixture
def forgotten():
    """Nothing is loaded yet; what the test loads is forgotten too, for it rounds otherwise."""

    def forget():
        compiled._found.cache_clear()
        compiled.library.cache_clear()

    forget()
    yield
    forget()


def test_threads_at_once_compile_once(cache, forgotten, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return found(*arguments)

    found = compiled._make
    monkeypatch.setattr(compiled, "_make", counted)
    with ThreadPoolExecutor(4) as pool:
        assert None not in list(pool.map(lambda _: compiled.library(), range(4)))
    assert len(calls) == 1


def test_a_damaged_library_is_made_anew(cache, capsys):
    path = kept_in(cache)
    path.write_bytes(b"no library")
    assert make() is not None
    assert capsys.readouterr().out.count(LINE) == 1
    assert path.read_bytes() != b"no library"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert make() is not None
    assert "for this process alone" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_library_that_cannot_be_put_into_the_cache_is_used_all_the_same(cache, capsys):
    kept_in(cache).mkdir()  # as an unwritable folder, which stops root as well
    assert make() is not None
    assert "for this process alone" in capsys.readouterr().out


def test_a_user_without_a_home_has_kernels_too(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compiled.Path, "home", none)
    assert make() is not None


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 60"], ids=["fails", "hangs"])
def test_a_compiler_that_fails_is_told_and_nothing_stops(
    cache, compiler, script, monkeypatch, capsys
):
    compiler(script)
    monkeypatch.setattr(compiled, "_SECONDS", 0.2)
    assert make() is None
    assert "could not compile" in capsys.readouterr().err
    assert list(cache.iterdir()) == []


def test_words_behind_the_compiler_are_given_to_it(cache, compiler, monkeypatch):
    compiler('[ "$1" = -Wall ] || exit 1; exec c++ "$@"')
    monkeypatch.setenv("CXX", os.environ["CXX"] + " -Wall")
    assert make() is not None


def test_without_a_compiler_or_with_an_unknown_one_nothing_is_said(cache, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert make() is not None  # the system's own
    monkeypatch.setenv("PATH", "")
    capsys.readouterr()
    assert make() is None
    assert capsys.readouterr() == ("", "")
