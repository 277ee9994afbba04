"""Official data sets: fetched from a server on this machine, checked, unpacked, read."""

import hashlib
import json
import re
import shutil
from collections import namedtuple

import pytest
from click.testing import CliRunner

from kderm.atomic import locked
from kderm.cli import main
from kderm.data.datasets import DATASETS, read_dataset
from kderm.data.fetch import fetch_dataset
from kderm.data.official import OFFICIAL, OfficialDataset, OfficialFile
from kderm.errors import UserError
from kderm.labels import HAM10000

HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset"
ROWS = [f"HAM_{i},ISIC_{i},nv,histo,40.0,male,back,vidir_modern" for i in range(4)]
TABLE = "\n".join([HEADER, *ROWS, ""]).encode()


@pytest.fixture
def mirror(server, zipped, monkeypatch):
    """A mirror with a HAM10000 of four images, and the registry's row for it."""
    parts = {
        f"HAM10000_images_part_{part}.zip": zipped(
            {f"ISIC_{i}.jpg": bytes([i]) * 3000 for i in numbers}
        )
        for part, numbers in ((1, (0, 1)), (2, (2, 3)))
    }
    served = {"HAM10000_metadata.csv": TABLE, **parts}
    server.files = {f"ham10000/{name}": content for name, content in served.items()}
    files = tuple(
        OfficialFile(
            name,
            f"https://dataverse.example/{name}",
            len(content),
            f"md5:{hashlib.md5(content).hexdigest()}",
            folder=name.removesuffix(".zip") if name.endswith(".zip") else "",
            images=2 if name.endswith(".zip") else 0,
        )
        for name, content in served.items()
    )
    row = OfficialDataset("HAM10000", "CC BY-NC 4.0", "https://terms.example", files)
    monkeypatch.setitem(OFFICIAL, "ham10000", row)
    monkeypatch.setenv("KDERM_MIRROR", f"{server.address}/")
    return server


@pytest.fixture
def offline(monkeypatch):
    """No connection to anywhere."""

    def refuse(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refuse)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_fetched_data_set_is_read_by_its_adapter(mirror, tmp_path):
    seen = []
    into = fetch_dataset("ham10000", tmp_path / "ham", lambda *done: seen.append(done))
    rows = read_dataset("ham10000", into, HAM10000)
    assert rows.problems == []
    assert sorted(rows.table["image_id"]) == ["ISIC_0", "ISIC_1", "ISIC_2", "ISIC_3"]
    assert seen[-1] == (1, 1)
    assert names(into) == [
        "HAM10000_images_part_1",
        "HAM10000_images_part_1.zip.fetched.json",
        "HAM10000_images_part_2",
        "HAM10000_images_part_2.zip.fetched.json",
        "HAM10000_metadata.csv",
        "HAM10000_metadata.csv.fetched.json",
    ]


def test_the_command_says_what_it_fetches_under_which_licence_and_what_comes_next(mirror, tmp_path):
    into = tmp_path / "ham"
    result = CliRunner().invoke(main, ["prepare", "--download", "ham10000", "--into", str(into)])
    assert result.exit_code == 0, result.output
    assert "HAM10000, CC BY-NC 4.0; terms: https://terms.example" in result.output
    assert "data.dataset=ham10000" in result.output
    assert f"data.root={into}" in result.output


def test_what_was_fetched_is_written_down(mirror, tmp_path):
    into = fetch_dataset("ham10000", tmp_path / "ham")
    record = json.loads((into / "HAM10000_images_part_1.zip.fetched.json").read_text())
    archive = mirror.files["ham10000/HAM10000_images_part_1.zip"]
    assert record == {
        "url": mirror.url("ham10000/HAM10000_images_part_1.zip"),
        "licence": "CC BY-NC 4.0",
        "size": len(archive),
        "sha256": hashlib.sha256(archive).hexdigest(),
        "checked": f"md5:{hashlib.md5(archive).hexdigest()}",
        "files": 2,
    }


def test_a_second_call_asks_the_server_for_nothing(mirror, tmp_path):
    fetch_dataset("ham10000", tmp_path / "ham")
    asked = len(mirror.asked)
    fetch_dataset("ham10000", tmp_path / "ham")
    assert len(mirror.asked) == asked == 3


def test_an_interrupted_call_is_gone_on_with(mirror, tmp_path):
    into = tmp_path / "ham"
    mirror.cuts = [10_000, 10_000, 0, 0, 0, 0, 0]  # the second archive never arrives whole
    with pytest.raises(UserError, match=r"part_2\.zip of ham10000 from 127\.0\.0\.1"):
        fetch_dataset("ham10000", into)
    assert (into / "HAM10000_images_part_1").is_dir()
    mirror.cuts, mirror.asked[:] = [], []
    fetch_dataset("ham10000", into)
    assert {path for path, _ in mirror.asked} == {"ham10000/HAM10000_images_part_2.zip"}


# === By hand ===


def test_files_put_there_by_hand_are_checked_unpacked_and_kept(mirror, tmp_path, offline):
    into = tmp_path / "ham"
    into.mkdir()
    for name, content in mirror.files.items():
        (into / name.removeprefix("ham10000/")).write_bytes(content)
    fetch_dataset("ham10000", into)
    assert len(read_dataset("ham10000", into, HAM10000).table) == 4
    assert (into / "HAM10000_images_part_1.zip").exists()


def test_a_file_put_there_that_is_not_the_official_one_is_refused(mirror, tmp_path):
    into = tmp_path / "ham"
    into.mkdir()
    (into / "HAM10000_metadata.csv").write_bytes(TABLE.replace(b"vidir_modern", b"rosendahl"))
    with pytest.raises(UserError, match=r"Expected the official HAM10000_metadata\.csv \(md5:"):
        fetch_dataset("ham10000", into)
    assert mirror.asked == []


def test_an_image_folder_put_there_by_hand_is_taken_if_it_is_whole(mirror, tmp_path):
    into = tmp_path / "ham"
    folder = into / "HAM10000_images_part_1"
    folder.mkdir(parents=True)
    (folder / "ISIC_0.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match=r"Expected 2 files of .*part_1\.zip.*Received: 1"):
        fetch_dataset("ham10000", into)
    (folder / "ISIC_1.jpg").write_bytes(b"x")
    fetch_dataset("ham10000", into)
    assert "ham10000/HAM10000_images_part_1.zip" not in {path for path, _ in mirror.asked}


# === Later calls check ===


def test_a_table_that_was_edited_since_is_refused_and_not_overwritten(mirror, tmp_path):
    into = fetch_dataset("ham10000", tmp_path / "ham")
    table = into / "HAM10000_metadata.csv"
    table.write_bytes(TABLE + b"\n")
    with pytest.raises(UserError, match=r"as it was fetched.*another file.*Rename it"):
        fetch_dataset("ham10000", into)
    assert table.read_bytes() == TABLE + b"\n"


def test_images_that_are_gone_since_are_told(mirror, tmp_path):
    into = fetch_dataset("ham10000", tmp_path / "ham")
    (into / "HAM10000_images_part_2" / "ISIC_3.jpg").unlink()
    with pytest.raises(UserError, match=r"Expected 2 files.*Received: 1\. Delete the folder"):
        fetch_dataset("ham10000", into)


def test_a_call_killed_between_unpacking_and_noting_it_unpacks_nothing_twice(mirror, tmp_path):
    into = fetch_dataset("ham10000", tmp_path / "ham")
    path = into / "HAM10000_images_part_1.zip.fetched.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": 0}))
    archive = into / "HAM10000_images_part_1.zip"
    archive.write_bytes(mirror.files[f"ham10000/{archive.name}"])
    fetch_dataset("ham10000", into)
    assert json.loads(path.read_text())["files"] == 2
    assert not archive.exists()


# === What cannot be had ===


def test_without_a_network_it_says_what_to_fetch_by_hand_and_where_to_put_it(
    tmp_path, offline, monkeypatch
):
    monkeypatch.delenv("KDERM_MIRROR", raising=False)
    into = tmp_path / "pad"
    result = CliRunner().invoke(main, ["prepare", "--download", "pad_ufes20", "--into", str(into)])
    assert result.exit_code == 2
    text = result.output
    assert "no connection to data.mendeley.com (Network is unreachable)" in text
    for file in OFFICIAL["pad_ufes20"].files:
        assert f"  {file.url}\n    -> {into / file.name}\n" in text + "\n"
    assert "Traceback" not in text


def test_a_wrong_checksum_keeps_the_data_set_unfinished(mirror, tmp_path):
    mirror.files["ham10000/HAM10000_images_part_2.zip"] = b"PK something else"
    with pytest.raises(UserError, match=r"expected md5:.*the publisher has replaced it"):
        fetch_dataset("ham10000", tmp_path / "ham")
    assert "HAM10000_images_part_2" not in names(tmp_path / "ham")
    assert "HAM10000_images_part_2.zip" not in names(tmp_path / "ham")


def test_a_disk_without_room_for_the_whole_data_set_is_refused_first(mirror, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 15_000))
    with pytest.raises(UserError, match="Expected room for ham10000"):
        fetch_dataset("ham10000", tmp_path / "ham")
    assert mirror.asked == []


def test_a_data_set_for_members_only_is_told_with_its_page(tmp_path):
    with pytest.raises(UserError, match=r"isic2024.*kaggle competitions download.*data\.root="):
        fetch_dataset("isic2024", tmp_path)


def test_an_unknown_name_is_answered_with_the_nearest_one(tmp_path):
    with pytest.raises(UserError, match=r"'ham10000'.*Received: 'ham1000'"):
        fetch_dataset("ham1000", tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "ham").write_text("x")
    with pytest.raises(UserError, match="Expected a folder for ham10000"):
        fetch_dataset("ham10000", tmp_path / "ham")


def test_two_calls_do_not_fetch_into_one_folder_at_once(mirror, tmp_path):
    with (
        locked(tmp_path / "ham", "never seen"),
        pytest.raises(UserError, match="Another command is fetching"),
    ):
        fetch_dataset("ham10000", tmp_path / "ham")


# === The registry ===


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_row_can_be_fetched_or_says_how_and_has_an_adapter(name):
    row = OFFICIAL[name]
    assert name in DATASETS
    assert bool(row.files) != bool(row.by_hand)
    assert len({file.name for file in row.files}) == len(row.files)
    assert row.page.startswith("https://")
    for file in row.files:
        assert file.url.startswith("https://")
        assert file.size > 0
        assert bool(file.folder) == file.name.endswith(".zip")
        assert re.fullmatch(r"|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)


@pytest.mark.parametrize("part", ["ISIC_2019_Training_Metadata", "ISIC_2020_Training_Duplicates"])
def test_the_checksums_are_those_of_real_tables_at_hand(part, real_labels):
    file = next(
        file for row in OFFICIAL.values() for file in row.files if file.name == f"{part}.csv"
    )
    path = real_labels / file.name
    algorithm, _, expected = file.checksum.partition(":")
    assert hashlib.new(algorithm, path.read_bytes()).hexdigest() == expected
    assert path.stat().st_size == file.size
