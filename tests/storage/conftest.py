"""An object store in memory, places of every kind, and a cache of their own for the tests."""

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

from kderm.storage.places import open_place


class Bucket(AbstractFileSystem):
    """What every object store can do and no more: objects are put whole, read, listed, removed."""

    protocol = "bucket"
    cachable = False
    objects: dict = {}  # noqa: RUF012 - shared by all, as a bucket is
    puts: list = []  # noqa: RUF012
    fails_after = None

    def _key(self, path):
        return self._strip_protocol(path).strip("/")

    def ls(self, path, detail=True, **_):
        top = self._key(path)
        if top in self.objects:
            found = {top: self._info(top)}
        else:
            found = {}
            for key in self.objects:
                if key.startswith(f"{top}/"):
                    name, _, rest = key[len(top) + 1 :].partition("/")
                    folder = {"name": f"{top}/{name}", "size": 0, "type": "directory"}
                    found[f"{top}/{name}"] = folder if rest else self._info(key)
            if not found:
                raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def _info(self, key):
        content, count = self.objects[key]
        return {"name": key, "size": len(content), "type": "file", "ETag": f"e{count}"}

    def cat_file(self, path, start=None, end=None, **_):
        try:
            return self.objects[self._key(path)][0][start:end]
        except KeyError:
            raise FileNotFoundError(path) from None

    def pipe_file(self, path, value, mode="overwrite", **_):
        if self.fails_after is not None and len(self.puts) >= self.fails_after:
            raise OSError("the network is gone")
        self.puts.append(self._key(path))
        self.objects[self._key(path)] = bytes(value), len(self.puts)

    def put_file(self, lpath, rpath, **_):
        with open(lpath, "rb") as handle:
            self.pipe_file(rpath, handle.read())

    def get_file(self, rpath, lpath, **_):
        with open(lpath, "wb") as handle:
            handle.write(self.cat_file(rpath))

    def _rm(self, path):
        del self.objects[self._key(path)]

    def mv(self, *_, **__):
        raise NotImplementedError("an object store has no rename")

    def _open(self, *_, **__):
        raise NotImplementedError("an object store has no append")


fsspec.register_implementation("bucket", Bucket, clobber=True)


@pytest.fixture
def bucket(monkeypatch):
    for name, value in (("objects", {}), ("puts", []), ("fails_after", None)):
        monkeypatch.setattr(Bucket, name, value)
    return Bucket


@pytest.fixture(params=["path", "file", "memory", "bucket"])
def place(request, tmp_path, bucket):
    fsspec.filesystem("memory").store.clear()
    urls = {
        "path": tmp_path / "runs",
        "file": (tmp_path / "runs").as_uri(),
        "memory": "memory://box/runs",
        "bucket": "bucket://box/runs",
    }
    return open_place(urls[request.param])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled():
    """Writes a run with one finished fold into a folder."""

    def write(run):
        for name in ("config.yaml", "fold_0/model.keras", "fold_0/oof.csv", "fold_0/done.json"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text(name)
        (run / "fold_0" / "state.npz").write_text("only while it trains")
        (run / ".lock").write_text("")

    return write
