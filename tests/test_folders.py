"""The path picker: which files below a folder can be picked, and every way out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regatta.dashboard import folders, settings, sign_in, sources
from regatta.dashboard.settings import DATA_ROOT_VARIABLE, PROXY_VARIABLE
from regatta.utils import UserError, write_json


@pytest.fixture
def root(regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An allowed folder with files, beside others that nobody may read."""
    folder = tmp_path / "data"
    (folder / "2024").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("races.csv", "2024/Boats.TSV.gz", "key.pem", ".hidden.csv", ".git/config.csv"):
        (folder / name).write_text("a,b\n1,2\n")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    (folder / "leads-out.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "up").symlink_to(tmp_path)
    (folder / "again.csv").symlink_to(folder / "races.csv")
    (folder / "disguised.csv").symlink_to(folder / "key.pem")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(folder))
    return folder


def test_csv_files_are_listed_with_their_sizes(root: Path) -> None:
    listing = folders.list_files(root)
    assert listing.files == {"2024/Boats.TSV.gz": 8, "races.csv": 8}
    assert listing.is_whole


def test_a_huge_tree_is_listed_in_part(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_LISTED", 1)
    listing = folders.list_files(root)
    assert len(listing.files) == 1
    assert not listing.is_whole
    monkeypatch.setattr(folders, "MAX_SEEN", 0)
    assert folders.list_files(root) == folders.Listing({}, is_whole=False)


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv",
        "2024/../../secret.csv",
        "2024/../races.csv",  # it would stay inside, but no honest click gives it
        "..\\secret.csv",
        "/etc/passwd",
        "~/secret.csv",
        "leads-out.csv",
        "up/secret.csv",
        "",
        ".",
    ],
)
def test_what_leads_out_is_refused(root: Path, path: str) -> None:
    with pytest.raises(UserError, match="not a path below this folder"):
        folders.resolve(root, path)
    assert not list(root.parent.glob("home/picked/*"))


@pytest.mark.parametrize(
    "path",
    [
        "key.pem",
        "disguised.csv",
        ".hidden.csv",
        ".git/config.csv",
        "folder.csv",
        "pipe.csv",
        "loop.csv",
        "missing.csv",
        "nul\0.csv",
        "x" * 5000 + ".csv",
    ],
)
def test_what_is_no_visible_csv_file_is_not_there(root: Path, path: str) -> None:
    with pytest.raises(UserError, match="There is no CSV file"):
        folders.resolve(root, path)


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    assert folders.resolve(root, "again.csv") == root / "races.csv"


def test_a_picked_file_is_a_source(root: Path) -> None:
    key = folders.pick(root, " races.csv ")
    assert folders.KEY_PATTERN.fullmatch(key)
    source = sources.find(key)
    assert (source.kind, source.name, source.path) == (sources.KIND_FOLDER, "races.csv",
                                                       root / "races.csv")  # fmt: skip
    assert key in {each.key for each in sources.list_sources()}
    folders.forget(key)
    assert (root / "races.csv").is_file()
    with pytest.raises(UserError):
        sources.find(key)


@pytest.mark.parametrize("key", ["folder-", "folder-../../x", "folder-" + "0" * 16, "../folder"])
def test_a_key_that_was_never_given_finds_nothing(root: Path, key: str) -> None:
    with pytest.raises(UserError, match="not here any more"):
        sources.find(key)


def test_a_picked_file_is_looked_at_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link put in its place, a folder that is allowed no more: it is gone."""
    key = folders.pick(root, "races.csv")
    (root / "races.csv").unlink()
    assert folders.list_picked() == []
    (root / "races.csv").symlink_to(root.parent / "secret.csv")
    with pytest.raises(UserError, match="not here any more"):
        sources.find(key)
    other = folders.pick(root, "2024/Boats.TSV.gz")
    monkeypatch.delenv(DATA_ROOT_VARIABLE)
    with pytest.raises(UserError, match="not here any more"):
        sources.find(other)


def test_a_record_that_names_a_file_elsewhere_finds_nothing(root: Path, regatta_home: Path) -> None:
    key = folders.pick(root, "races.csv")
    record = regatta_home / "picked" / f"{key}.json"
    write_json(record, {"path": str(root.parent / "secret.csv")}, durable=False)
    with pytest.raises(UserError, match="not here any more"):
        sources.find(key)


def test_the_oldest_picks_are_forgotten(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_PICKED", 1)
    first = folders.pick(root, "races.csv")
    second = folders.pick(root, "2024/Boats.TSV.gz")
    assert [key for key, _ in folders.list_picked()] == [second]
    assert first != second


def test_without_a_named_folder_there_is_no_picker(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA_ROOT_VARIABLE, raising=False)
    assert folders.roots() == []
    folders.check()


def test_a_folder_that_is_missing_is_told_at_the_start(
    regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, str(tmp_path / "away"))
    with pytest.raises(UserError, match="is not there"):
        folders.check()


def test_a_proxy_alone_opens_no_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = folders.pick(root, "races.csv")
    monkeypatch.setenv(PROXY_VARIABLE, "1")
    assert folders.roots() == []
    with pytest.raises(UserError):
        sources.find(key)
    with pytest.raises(UserError, match="whoever comes through the proxy"):
        folders.check()
    monkeypatch.setenv(sign_in.ALLOWED_VARIABLE, "ann@example.org")
    assert folders.roots() == [root]
    folders.check()


def test_folders_of_the_command_line(
    regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_ROOT_VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    settings.declare_data_roots(["a", str(tmp_path)])
    assert folders.roots() == [tmp_path / "a", tmp_path]
