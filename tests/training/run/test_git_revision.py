"""The revision that `run.json` notes, without running git."""

import subprocess
from pathlib import Path

import pytest

from convax.training.run.git_revision import git_revision


def git(folder, *arguments):
    """What git says; the user's own settings do not count."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with a commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("a")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_it_is_the_commit_that_is_checked_out(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert len(head) == 40 and git_revision(repository) == head
    (repository / "below").mkdir()
    assert git_revision(repository / "below") == head
    git(repository, "pack-refs", "--all")
    assert git_revision(repository) == head
    git(repository, "worktree", "add", "-q", "../other", "-b", "feature/x")
    assert git_revision(repository.parent / "other") == head
    git(repository, "checkout", "-q", "--detach")
    assert git_revision(repository) == head


def test_there_is_none_without_a_commit_or_a_repository(tmp_path):
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    assert git_revision(tmp_path / "empty") is None
    for content in ("nonsense", "gitdir: /nowhere", ""):
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / ".git").write_text(content)
        assert git_revision(tmp_path / "odd") is None


def test_there_is_none_below_a_folder_that_may_not_be_searched(tmp_path, monkeypatch):
    def closed(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)  # as before Python 3.14
    assert git_revision(tmp_path) is None


@pytest.mark.parametrize(
    "head", ["ref: ../../secret", "ref: refs/../../x", "ref: refs/heads/gone", "\0", ""]
)
def test_a_head_that_leads_elsewhere_is_none(repository, head):
    (repository.parent / "secret").write_text(40 * "a")
    (repository / ".git" / "HEAD").write_text(head)
    assert git_revision(repository) is None


def test_nothing_that_a_repository_configures_is_run(repository, tmp_path, monkeypatch):
    """`git describe --dirty` runs each of these."""
    from convax.training.run.directory import circumstances

    ran = tmp_path / "ran"
    git(repository, "config", "core.fsmonitor", f"touch {ran}; false")
    git(repository, "config", "filter.x.clean", f"touch {ran}; cat")
    (repository / ".git" / "info" / "attributes").write_text("*.txt filter=x\n")
    (repository / "a.txt").write_text("b")
    monkeypatch.chdir(repository)
    assert circumstances()["git"] is not None and not ran.exists()
    subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, check=False)
    assert ran.exists(), "the attack works where git is run"
