import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets.imagenet import ARCHIVE_META

from workflow_scripts.common.errors import StepError
from workflow_scripts.data import evaluation_set
from workflow_scripts.data.classes import folder_classes, read_templates
from workflow_scripts.data.images import decode_image
from workflow_scripts.data.manifest import ImageReader, read_manifest


def jpeg(seed, format="JPEG"):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


NUMBERS = [7, 1000, 1, 7, 500]


@pytest.fixture
def order(tmp_path, monkeypatch):
    """Make a devkit like ImageNet's, with unordered classes and synsets that are not classes."""
    classes = 1000
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children"]
    order = np.random.default_rng(0).permutation(classes)
    synsets = np.zeros(classes + 5, dtype=[(field, object) for field in fields])
    for i in range(classes + 5):
        wnid = f"n{order[i]:08d}" if i < classes else f"n{90_000_000 + i}"
        children = 0 if i < classes else 2
        synsets[i] = (i + 1, wnid, f"name {i}, other name", "gloss", children, [])
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})
    truth = "".join(f"{number}\n" for number in NUMBERS).encode()
    files = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": truth}
    with tarfile.open(tmp_path / "devkit.tgz", "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    md5 = hashlib.md5((tmp_path / "devkit.tgz").read_bytes()).hexdigest()
    monkeypatch.setitem(ARCHIVE_META, "devkit", ("devkit.tgz", md5))
    return order


def make_archive(path, numbers, extra=()):
    with tarfile.open(path, "w") as tar:
        for member in extra:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        for number in numbers:
            member = tarfile.TarInfo(f"ILSVRC2012_val_{number:08d}.JPEG")
            data = jpeg(number, format="PNG" if number == 2 else "JPEG")
            member.size, member.mtime = len(data), 1_339_000_000
            tar.addfile(member, io.BytesIO(data))


def run_imagenet(tmp_path, output="imagenet"):
    folder = tmp_path / "results" / "evaluation" / output
    words = [f"--imagenet-archive={tmp_path}/val.tar", f"--devkit={tmp_path}/devkit.tgz"]
    evaluation_set.main([*words, f"--root={tmp_path}/results", f"--output={folder}"])
    return folder


def test_imagenet_images_are_copied_unchanged(tmp_path, order):
    make_archive(tmp_path / "val.tar", [3, 1, 5, 2, 4])
    folder = run_imagenet(tmp_path)
    rows = read_manifest(folder / "manifest.parquet")
    assert rows["label"].tolist() == [order[number - 1] for number in NUMBERS]
    assert rows["key"].tolist() == [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 6)]
    reader = ImageReader(tmp_path / "results")
    for number, row in enumerate(rows.itertuples(), start=1):
        data = reader.read(row.tar, row.offset, row.size)
        assert data == jpeg(number, format="PNG" if number == 2 else "JPEG")
    names = json.loads((folder / "classes.json").read_text())
    assert names["classes"] == list(open_clip.IMAGENET_CLASSNAMES)
    assert len(names["templates"]) == 80
    assert [t.replace("{c}", "cat") for t in names["templates"]] == [
        t("cat") for t in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    make_archive(tmp_path / "val.tar", [1, 2, 3, 4, 5])
    again = run_imagenet(tmp_path, "again")
    assert (again / "images.tar").read_bytes() == (folder / "images.tar").read_bytes()


@pytest.mark.usefixtures("order")
def test_a_hostile_archive_writes_no_other_files_and_its_members_are_counted(tmp_path, capsys):
    climber = tarfile.TarInfo("../../escaped.JPEG")
    climber.size = 10
    link = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("ILSVRC2012_val_00000002.JPEG")
    device.type = tarfile.CHRTYPE
    make_archive(tmp_path / "val.tar", [1, 2, 3, 4, 5, 5], [climber, link, device])
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    folder = run_imagenet(tmp_path)
    made = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    names = ("images.tar", "manifest.parquet", "classes.json", "skipped.csv")
    assert made == {folder / name for name in names}
    assert len(read_manifest(folder / "manifest.parquet")) == 5
    assert "skipped: 4 x not a validation image" in capsys.readouterr().out


@pytest.mark.usefixtures("order")
def test_wrong_imagenet_files_are_reported(tmp_path):
    make_archive(tmp_path / "val.tar", [1, 2, 3, 4])
    with pytest.raises(StepError, match="has 4 validation images, but the devkit has labels for 5"):
        run_imagenet(tmp_path)
    content = (tmp_path / "val.tar").read_bytes()
    (tmp_path / "val.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(StepError, match=r"val\.tar (is a broken tar|has \d val)"):
        run_imagenet(tmp_path)
    content = (tmp_path / "devkit.tgz").read_bytes()
    for bad in (content[: len(content) // 2], b"no archive"):
        (tmp_path / "devkit.tgz").write_bytes(bad)
        with pytest.raises(StepError, match=r"devkit\.tgz is not ImageNet's devkit"):
            run_imagenet(tmp_path)
    (tmp_path / "devkit.tgz").unlink()
    with pytest.raises(StepError, match=r"devkit\.tgz does not exist"):
        run_imagenet(tmp_path)
    assert not [p for p in (tmp_path / "results").rglob("*") if p.is_file()]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name, number in {
        "red_circle/b.jpg": 1,
        "red_circle/a.png": 2,
        "banana/deep/x.jpg": 3,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(number, format="PNG" if "png" in name else "JPEG"))
    (folder / "banana" / "notes.txt").write_text("not a picture")
    (folder / "banana" / ".DS_Store").write_bytes(b"\0")
    (folder / "nothing_here").mkdir()
    return folder


def run_folder(folder, *more, output="own"):
    root = folder.parent / "results"
    out = root / "evaluation" / output
    words = ["--folder", str(folder), "--root", str(root), "--output", str(out), *map(str, more)]
    evaluation_set.main(words)
    return out


def test_a_folder_of_sub_folders_becomes_an_evaluation_set(pictures, capsys):
    out = run_folder(pictures)
    rows = read_manifest(out / "manifest.parquet")
    assert rows[["key", "label"]].to_numpy().tolist() == [
        ["banana/deep/x.jpg", 0],
        ["red_circle/a.png", 2],
        ["red_circle/b.jpg", 2],
    ]
    assert json.loads((out / "classes.json").read_text())["classes"] == [
        "banana",
        "nothing here",
        "red circle",
    ]
    output = capsys.readouterr().out
    assert "skipping banana/notes.txt: not an image" in output
    assert "3 images of 3 classes; classes without images: 1" in output
    row = rows.iloc[1]
    assert row["tar"] == "evaluation/own/images.tar"
    data = ImageReader(pictures.parent / "results").read(row["tar"], row["offset"], row["size"])
    assert hashlib.sha256(data).digest() == hashlib.sha256(jpeg(2, format="PNG")).digest()
    assert decode_image(data).shape == (3, 64, 96)
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    assert first == {p.name: p.read_bytes() for p in run_folder(pictures).iterdir()}


def test_class_names_and_templates_can_be_set(pictures, tmp_path):
    (tmp_path / "c.json").write_text('{"banana": "ripe banana"}')
    (tmp_path / "t.json").write_text('["a {c}.", "the {c}!"]')
    more = ["--classes", tmp_path / "c.json", "--templates", tmp_path / "t.json"]
    names = json.loads((run_folder(pictures, *more) / "classes.json").read_text())
    assert names == {
        "classes": ["ripe banana", "nothing here", "red circle"],
        "templates": ["a {c}.", "the {c}!"],
    }
    (pictures / "classes.json").write_text('{"red_circle": "disc"}')
    names = json.loads((run_folder(pictures, output="b") / "classes.json").read_text())
    assert names["classes"] == ["banana", "nothing here", "disc"]


def test_folders_named_by_wordnet_ids_get_imagenet_class_names(tmp_path):
    for i in range(1000):
        (tmp_path / f"n{i * 37:08d}").mkdir()
    assert evaluation_set.folder_classes(tmp_path)[1] == list(open_clip.IMAGENET_CLASSNAMES)


def test_wrong_folders_and_files_are_reported(pictures, tmp_path):
    given = tmp_path / "g.json"
    for content, option, complaint in [
        ('{"bananna": "x"}', "--classes", "names 'bananna', which is not a sub-folder"),
        ('{"banana": "red circle"}', "--classes", "2 sub-folders .* have the class 'red circle'"),
        ('["banana"]', "--classes", "maps sub-folders to class names"),
        ("{banana", "--classes", "is not JSON"),
        ('["a photo"]', "--templates", "'a photo' has no {c}"),
        ("[]", "--templates", "non-empty JSON list of templates"),
    ]:
        given.write_text(content)
        with pytest.raises(StepError, match=complaint):
            run_folder(pictures, option, given)
    with pytest.raises(StepError, match="has no sub-folders"):
        run_folder(pictures / "nothing_here")
    with pytest.raises(StepError, match=r"folder .* does not exist"):
        run_folder(pictures / "none")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(StepError, match="no file could be decoded as an image"):
        run_folder(tmp_path / "empty")
    words = ["--imagenet-archive", str(given), "--root", str(tmp_path), "--output", str(tmp_path)]
    with pytest.raises(StepError, match="set --devkit"):
        evaluation_set.main(words)
    assert not list((tmp_path / "results").rglob("*.tar"))


@pytest.mark.parametrize("name", ["   ", "___", "a\nb", "a\x1b[2Jb", "a\u2028b"])
def test_a_class_with_an_unprintable_name_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(StepError, match="blank or contains control characters"):
        evaluation_set.folder_classes(tmp_path)


def test_system_folders_are_not_classes(tmp_path):
    for name in ("banana", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"):
        (tmp_path / name).mkdir()
    assert evaluation_set.folder_classes(tmp_path)[1] == ["banana"]


def test_a_pipe_instead_of_a_file_does_not_block(tmp_path):
    (tmp_path / "banana").mkdir()
    os.mkfifo(tmp_path / "classes.json")
    with pytest.raises(StepError, match="is not a file"):
        evaluation_set.folder_classes(tmp_path)


def test_skipped_files_are_listed_with_reasons(pictures):
    elsewhere = pictures.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "5.png").write_bytes(jpeg(5, format="PNG"))
    (pictures / "banana" / ".ipynb_checkpoints").mkdir()
    (pictures / "banana" / ".ipynb_checkpoints" / "x.png").write_bytes(jpeg(6, format="PNG"))
    (pictures / "__MACOSX").mkdir()
    (pictures / "__MACOSX" / "x.png").write_bytes(jpeg(7, format="PNG"))
    (pictures / "banana" / "Thumbs.db").write_bytes(b"\0")
    (pictures / "README").write_text("about")
    (pictures / "banana" / "out").symlink_to(elsewhere)
    (pictures / "banana" / "out.png").symlink_to(elsewhere / "5.png")
    (pictures / "banana" / "deep" / "loop").symlink_to(pictures / "banana")
    (pictures / "banana" / "deep" / "in").symlink_to(pictures / "red_circle")
    (pictures / "red_circle" / "back").symlink_to(pictures / "banana" / "deep")
    Path(os.fsdecode(os.fsencode(pictures / "banana") + b"/\xff.png")).write_bytes(b"")
    with (pictures / "banana" / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    out = run_folder(pictures)
    table = pd.read_csv(out / "skipped.csv", index_col="name")["reason"].to_dict()
    assert table["banana/.ipynb_checkpoints"] == table["banana/.DS_Store"] == "hidden"
    assert table["__MACOSX/x.png"] == table["banana/Thumbs.db"] == "file of an operating system"
    assert table["banana/out"] == table["banana/out.png"] == "link out of the folder"
    assert table["banana/deep/loop"] == "link to a folder around it"
    assert table["banana/deep/in/back"] == "link to a folder around it"
    assert table["banana/\\xff.png"] == "name that is not UTF-8"
    assert table["README"] == "outside the sub-folders of the classes"
    assert table["banana/huge.png"].startswith("larger than")
    assert table["banana/notes.txt"].startswith("not an image")
    keys = read_manifest(out / "manifest.parquet")["key"].tolist()
    assert not set(keys) & set(table)
    assert "banana/deep/in/a.png" in keys
    (pictures / "zebra").symlink_to(elsewhere)
    with pytest.raises(StepError, match=r"'zebra' of .* cannot be used \(link out of the folder\)"):
        run_folder(pictures)


def header(name, size, type=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, type
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize(
    "start",
    [
        header("ILSVRC2012_val_00000001.JPEG", 20 << 30),
        header("ILSVRC2012_val_00000001.JPEG", -1024),
        header("x", 20 << 30, tarfile.GNUTYPE_LONGNAME),
        header("x", -1024, tarfile.GNUTYPE_LONGNAME),
        header("x", 20 << 30, tarfile.XHDTYPE),
        header("x", 512, tarfile.XHDTYPE) + b"99999999999 path=x\n".ljust(512, b"\0"),
        header("x", 512, tarfile.XHDTYPE) + b"21 size=99999999999\n".ljust(512, b"\0"),
        (header("x", 5, tarfile.GNUTYPE_LONGNAME) + b"name".ljust(512, b"\0")) * 3000,
        header("ILSVRC2012_val_00000001.JPEG", 1 << 42, tarfile.GNUTYPE_SPARSE),
        tarfile.TarInfo.create_pax_global_header({f"k{n}": "v" for n in range(200)}),
    ],
    ids=lambda start: None,
)
def test_a_hostile_header_is_reported_in_one_sentence(tmp_path, start):
    make_archive(tmp_path / "good.tar", [2, 3, 4, 5])
    (tmp_path / "val.tar").write_bytes(start + (tmp_path / "good.tar").read_bytes())
    with (tmp_path / "val.tar").open("r+b") as file:
        file.truncate(30 << 30)  # sparse, so that the size in the header can be read
    with pytest.raises(StepError, match=r"val\.tar (is a broken tar|has \d validation images)"):
        run_imagenet(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '["' + "\\ud800" + '{c}"]', "[" * 500 + "]" * 500])
def test_hostile_templates_are_reported_in_one_sentence(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(StepError, match=r"t\.json"):
        read_templates(tmp_path / "t.json")


def test_oversized_json_is_refused_before_parsing(tmp_path):
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StepError, match="more than 16777216 bytes"):
        read_templates(tmp_path / "t.json")


def test_subsets_of_imagenet_classes_get_imagenet_names(tmp_path):
    for name in ("n01440764", "n07753592", "n02037110", "954", "0"):
        (tmp_path / name).mkdir()
    folders, classes = folder_classes(tmp_path, of_imagenet=True)
    named = dict(zip([f.name for f in folders], classes, strict=True))
    assert named["n07753592"] == named["954"] == open_clip.IMAGENET_CLASSNAMES[954] == "banana"
    assert named["n01440764"] == named["0"] == open_clip.IMAGENET_CLASSNAMES[0]
    (tmp_path / "n00000001").mkdir()
    with pytest.raises(StepError, match="'n00000001' is neither the WordNet id nor the label"):
        folder_classes(tmp_path, of_imagenet=True)


def test_a_set_with_imagenet_names_may_be_a_subset(tmp_path):
    for name in ("n07753592", "n01440764"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").write_bytes(jpeg(1))
    evaluation_set.main(
        ["--folder", str(tmp_path / "images"), "--names", "imagenet", "--root", str(tmp_path),
         "--output", str(tmp_path / "set")]
    )  # fmt: skip
    assert json.loads((tmp_path / "set/classes.json").read_text())["classes"] == ["tench", "banana"]
    assert read_manifest(tmp_path / "set/manifest.parquet")["label"].tolist() == [0, 1]
