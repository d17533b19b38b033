"""In a shared location, only folders that this user owns are trusted."""

import os
import stat

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.private_folder import private_folder


@pytest.fixture
def planted(tmp_path):
    """The path that private_folder will return."""
    return tmp_path / f"x-{os.getuid()}"


def test_the_folder_is_private_and_reused(tmp_path):
    folder = private_folder(tmp_path / "new" / "place", "x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "kept").touch()
    assert private_folder(tmp_path / "new" / "place", "x") == folder
    assert (folder / "kept").exists()


def test_links_are_refused(tmp_path, planted):
    (tmp_path / "mine").mkdir(mode=0o700)
    for target in ("mine", "nowhere"):
        planted.symlink_to(tmp_path / target)
        with pytest.raises(StepError, match="is not a folder"):
            private_folder(tmp_path, "x")
        planted.unlink()
    planted.touch()
    with pytest.raises(StepError, match="is not a folder"):
        private_folder(tmp_path, "x")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_folder_accessible_to_others_is_refused(tmp_path, planted, mode):
    planted.mkdir()
    planted.chmod(mode)
    with pytest.raises(StepError, match=rf"open to other users \(mode {mode:04o}"):
        private_folder(tmp_path, "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path, planted):
    planted.mkdir(mode=0o700)
    os.chown(planted, 12345, 12345)
    with pytest.raises(StepError, match=r"belongs to another user \(uid 12345"):
        private_folder(tmp_path, "x")


def test_a_world_writable_parent_needs_the_sticky_bit(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(StepError, match="can be replaced by any user"):
        private_folder(tmp_path, "x")
    tmp_path.chmod(0o1777)
    private_folder(tmp_path, "x")
