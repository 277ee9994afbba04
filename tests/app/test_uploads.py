import io
import os
import zipfile

import pytest
from PIL import Image

from kderm.app.limits import Limits, Refused
from kderm.app.uploads import read_uploads

SMALL = Limits(file_mb=1, megapixels=1, unpacked_mb=2)


@pytest.fixture
def zipped(tmp_path):
    """zipped({name: bytes}): the path of a zip with these members."""

    def write(members, name="pictures.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return path

    return write


def test_photos_become_bytes_with_their_names(photo):
    found = read_uploads([photo("a.jpg"), photo("b.jpg", seed=1)], SMALL, 5)
    assert [one.name for one in found.pictures] == ["a.jpg", "b.jpg"]
    assert all(one.data and not one.problem for one in found.pictures)


def test_what_is_no_picture_gets_a_sentence_and_the_others_their_bytes(photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [photo("a.jpg"), tmp_path / "bad.jpg", tmp_path / "empty.png", tmp_path / "gone.jpg"]
    good, bad, empty, gone = read_uploads(paths, SMALL, 5).pictures
    assert good.problem == ""
    assert "not a picture" in bad.problem
    assert "empty" in empty.problem
    assert "no longer" in gone.problem


def test_a_format_that_no_suffix_stands_for_is_not_opened(tmp_path, jpeg):
    """Pillow hands PostScript to another program."""
    Image.open(io.BytesIO(jpeg())).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    (found,) = read_uploads([tmp_path / "a.jpg"], SMALL, 5).pictures
    assert "not a picture" in found.problem


def test_a_file_of_too_many_bytes_is_not_read(tmp_path):
    (tmp_path / "big.jpg").write_bytes(os.urandom(1_000_001))
    (found,) = read_uploads([tmp_path / "big.jpg"], SMALL, 5).pictures
    assert "at most 1 MB" in found.problem
    assert found.data == b""


@pytest.mark.parametrize("size", [(1001, 1000), (20_000, 20_000)])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size):
    Image.new("1", size).save(tmp_path / "bomb.png")
    (found,) = read_uploads([tmp_path / "bomb.png"], SMALL, 5).pictures
    assert "too many pixels" in found.problem


def test_more_photos_than_are_taken_are_refused_together(photo):
    with pytest.raises(Refused, match="These are 3 pictures, and at most 2"):
        read_uploads([photo(f"{n}.jpg") for n in range(3)], SMALL, 2)


def test_nothing_that_is_a_picture_is_refused(tmp_path, zipped):
    with pytest.raises(Refused, match="no picture"):
        read_uploads([zipped({"notes.txt": b"hello"})], SMALL, 5)
    with pytest.raises(Refused, match="no picture"):
        read_uploads([], SMALL, 5)


def test_a_zip_gives_its_pictures_by_name_and_tells_what_it_passed_over(zipped, jpeg):
    members = {
        "set/a.jpg": jpeg(),
        "set/b.png": b"broken",
        "notes.txt": b"hello",
        "inner.zip": b"PK\x03\x04",
        "__MACOSX/set/._a.jpg": b"x",
    }
    found = read_uploads([zipped(members)], SMALL, 5)
    assert [one.name for one in found.pictures] == ["set/a.jpg", "set/b.png"]
    assert found.pictures[0].data == jpeg()
    assert "not a picture" in found.pictures[1].problem
    assert len(found.notes) == 2
    assert "Not opened: 1 zip within" in found.notes[0]
    assert "Passed over: 1 other file in" in found.notes[1]


def test_a_zip_is_known_by_its_content_too(zipped, jpeg, tmp_path):
    path = zipped({"a.jpg": jpeg()})
    path.rename(tmp_path / "upload.bin")
    assert len(read_uploads([tmp_path / "upload.bin"], SMALL, 5).pictures) == 1


@pytest.mark.parametrize("name", ["../../etc/a.jpg", "/etc/a.jpg", "C:/a.jpg", "..\\a.jpg"])
def test_a_zip_with_a_path_that_leads_out_is_refused(zipped, jpeg, name):
    with pytest.raises(Refused, match="leads out"):
        read_uploads([zipped({name: jpeg()})], SMALL, 5)


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("a.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match="a link"):
        read_uploads([tmp_path / "link.zip"], SMALL, 5)


def test_a_zip_bomb_is_refused_by_what_it_says_of_itself(zipped):
    bomb = {f"{number}.png": bytes(900_000) for number in range(3)}
    path = zipped(bomb)
    assert path.stat().st_size < 10_000
    with pytest.raises(Refused, match="unpacks to more than 2 MB"):
        read_uploads([path], SMALL, 5)


def test_a_zip_that_lies_about_its_sizes_is_read_no_further_than_the_bound(zipped, monkeypatch):
    path = zipped({"0.png": bytes(5_000_000)})
    told = zipfile.ZipFile.infolist

    def small(self):
        items = told(self)
        for item in items:
            item.file_size = 10
        return items

    monkeypatch.setattr(zipfile.ZipFile, "infolist", small)
    reader, read = zipfile.ZipExtFile.read, []
    monkeypatch.setattr(
        zipfile.ZipExtFile, "read", lambda self, n=-1: read.append(n) or reader(self, n)
    )
    (found,) = read_uploads([path], SMALL, 5).pictures
    assert found.problem
    assert sum(read) <= 2 * SMALL.file_bytes


def test_more_pictures_in_a_zip_than_are_taken_are_refused_before_one_is_read(zipped, jpeg):
    with pytest.raises(Refused, match="These are 6 pictures, and at most 5"):
        read_uploads([zipped({f"{n}.jpg": jpeg() for n in range(6)})], SMALL, 5)


def test_pictures_are_counted_over_all_zips_of_a_request(zipped, jpeg, photo):
    one = zipped({f"{n}.jpg": jpeg() for n in range(3)}, "one.zip")
    two = zipped({f"{n}.jpg": jpeg() for n in range(2)}, "two.zip")
    with pytest.raises(Refused, match="These are 6 pictures, and at most 5"):
        read_uploads([one, photo("a.jpg"), two], SMALL, 5)


def test_bytes_are_counted_over_all_zips_of_a_request(zipped):
    zips = [zipped({"0.png": bytes(900_000)}, f"{number}.zip") for number in range(3)]
    assert len(read_uploads(zips[:2], SMALL, 5).pictures) == 2
    with pytest.raises(Refused, match="unpacks to more than 2 MB"):
        read_uploads(zips, SMALL, 5)


def test_plain_files_count_too(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(bytes(900_000))
    with pytest.raises(Refused, match="more than 2 MB"):
        read_uploads(paths, SMALL, 5)


def test_pixels_are_counted_over_all_pictures_of_a_request(photo):
    paths = [photo(f"{number}.jpg", shape=(700, 700)) for number in range(3)]
    limits = Limits(all_megapixels=1)
    assert len(read_uploads(paths[:2], limits, 5).pictures) == 2
    with pytest.raises(Refused, match="more than 1 million pixels"):
        read_uploads(paths, limits, 5)


def test_pictures_that_cannot_be_decoded_small_may_have_fewer_pixels(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.new("L", (1500, 1000)).save(tmp_path / name)
    limits = Limits(plain_megapixels=1)
    jpeg, png = read_uploads([tmp_path / "a.jpg", tmp_path / "a.png"], limits, 5).pictures
    assert jpeg.problem == ""
    assert "at most 1 million" in png.problem


@pytest.mark.parametrize("name", ["x", "x" * 2000], ids=["many", "long names"])
def test_a_zip_of_very_many_files_is_refused_before_they_are_listed(zipped, monkeypatch, name):
    path = zipped({f"{name}{number}": b"" for number in range(30)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    most = 20 if name == "x" else 100
    with pytest.raises(Refused, match=f"more files than are taken .{most}"):
        read_uploads([path], Limits(members=most), 5)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_member_of_another_packer_that_is_damaged_costs_itself_alone(tmp_path, jpeg, method):
    path = tmp_path / "half.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.jpg", jpeg())
        archive.writestr("b.jpg", jpeg(seed=1))
    data = bytearray(path.read_bytes())
    data[45:300] = bytes(255)
    path.write_bytes(data)
    first, second = read_uploads([path], SMALL, 5).pictures
    assert "damaged" in first.problem
    assert second.problem == ""


def test_a_colon_in_a_name_is_no_path(zipped, jpeg):
    (found,) = read_uploads([zipped({"10:30.jpg": jpeg()})], SMALL, 5).pictures
    assert found.problem == ""


def test_a_zip_that_is_gone_is_told_as_that(tmp_path):
    with pytest.raises(Refused, match="no longer on the server"):
        read_uploads([tmp_path / "gone.zip"], SMALL, 5)


def test_a_damaged_zip_is_told_in_a_sentence(tmp_path, zipped, jpeg):
    whole = zipped({"a.jpg": jpeg()}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Refused, match=r"cut\.zip cannot be opened"):
        read_uploads([tmp_path / "cut.zip"], SMALL, 5)


def test_a_member_that_is_damaged_costs_itself_alone(tmp_path, jpeg):
    path = tmp_path / "half.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.jpg", jpeg())
        archive.writestr("b.jpg", jpeg(seed=1))
    data = path.read_bytes()
    place = data.index(jpeg()) + 300
    path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
    first, second = read_uploads([path], SMALL, 5).pictures
    assert "damaged" in first.problem
    assert second.problem == ""
