"""`intermezzo push` against a Hub of our own, with the real client: data sets, tokens, an interruption, errors."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .hub_client import COMMANDS, finish, intermezzo, start
from .hub_stand_in import HubStandIn

CARD = "---\npretty_name: Toy\nlicense: apache-2.0\n---\n# Toy\n"


def write_dataset(folder: Path, names: tuple[str, ...], card: str = CARD) -> Path:
    (folder / "data").mkdir(parents=True)
    for number, name in enumerate(names):
        pq.write_table(pa.table({"text": [f"{name} {row}" for row in range(100 + number)]}), folder / "data" / name)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "work.pickle").write_bytes(b"not for others")
    return folder


@pytest.fixture
def hub():
    with HubStandIn({"good": "me", "other": "you"}) as running:
        yield running


def test_a_data_set_arrives_is_replaced_and_can_be_fetched(hub, tmp_path):
    first = write_dataset(tmp_path / "a", ("train-0-of-2.parquet", "train-1-of-2.parquet"))
    second = write_dataset(tmp_path / "b", ("train-0-of-1.parquet",))
    push = ("--repo-id", "me/toy", "--private")
    found = intermezzo(
        tmp_path, hub.environment(None),
        ("good", ["push", "dataset", first, *push]),
        ("good", ["push", "dataset", first, *push]),
        ("good", ["push", "dataset", second, *push]),
    )  # fmt: skip
    assert [done.code for done in found] == [0, 0, 0], found
    assert found[0].out.strip() == f"{hub.endpoint}/datasets/me/toy"
    repository = hub.repositories["dataset", "me/toy"]
    assert repository.private
    before, after = (files for _, files in repository.commits)  # the second push changed nothing, so it is no commit
    names = {"README.md", "data/train-0-of-2.parquet", "data/train-1-of-2.parquet"}
    assert set(before) == names and set(after) == {"README.md", "data/train-0-of-1.parquet"}
    assert len(hub.uploads) == 3 == len(set(hub.uploads))
    for path in names:
        assert before[path].content == (first / path).read_bytes()
    code = (
        "import huggingface_hub as h; h.snapshot_download('me/toy', repo_type='dataset', local_dir='back');"
        "import pyarrow.parquet as pq; print(pq.read_table('back/data/train-0-of-1.parquet').num_rows)"
    )
    assert finish(start(code, tmp_path, hub.environment("good"))).split()[-1] == "100"
    elsewhere = tmp_path / "stranger"  # who has no copy yet, either
    elsewhere.mkdir()
    stranger = start(code, elsewhere, hub.environment(None))
    assert "RepositoryNotFoundError" in stranger.communicate(timeout=300)[1] and stranger.returncode


def test_an_interrupted_upload_goes_on_where_it_was(hub, tmp_path):
    """The client is killed when half of the second object has come; the next call sends that one alone."""
    names = ("train-0-of-3.parquet", "train-1-of-3.parquet", "train-2-of-3.parquet")
    data = write_dataset(tmp_path / "data", names)
    words = f'[["good", ["push", "dataset", "{data}", "--repo-id", "me/toy"]]]'
    process = start(COMMANDS, tmp_path, hub.environment("good"), words)

    begun: list[str] = []

    def kill_after_the_first(oid: str) -> None:
        with hub.lock:  # the client sends several at a time: all but one wait here until that one is stored
            begun.append(oid)
            if len(begun) > 1:
                assert hub.lock.wait_for(lambda: hub.objects, timeout=60)
                process.send_signal(signal.SIGKILL)
                raise ConnectionError("the rest never comes")

    hub.before_storing = kill_after_the_first
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    first, arrived = hub.uploads[0], list(hub.objects)
    assert arrived == [first] and not hub.repositories["dataset", "me/toy"].commits
    hub.before_storing = lambda oid: None
    hub.uploads.clear()
    [done] = intermezzo(tmp_path, hub.environment(None), ("good", ["push", "dataset", data, "--repo-id", "me/toy"]))
    assert done.code == 0, done
    assert len(hub.uploads) == 2 and first not in hub.uploads
    files = hub.repositories["dataset", "me/toy"].files()
    for name in names:
        assert files[f"data/{name}"].content == (data / "data" / name).read_bytes()


def test_what_can_go_wrong_is_told_in_one_line(hub, tmp_path):
    good = write_dataset(tmp_path / "good", ("train.parquet",))
    bare = write_dataset(tmp_path / "bare", ("train.parquet",), card="# No word on rights\n")
    odd = write_dataset(tmp_path / "odd", ("train.parquet",), card="---\na: [\n---\nLicence: none\n")
    torn = write_dataset(tmp_path / "torn", ("train.parquet",))
    (torn / "data" / "train.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    dataset = ["push", "dataset"]
    cases = [
        (("wrong", [*dataset, good, "--repo-id", "me/toy"]), r"does not know this access token; log in"),
        ((None, [*dataset, good, "--repo-id", "me/toy"]), r"no access token"),
        (("other", [*dataset, good, "--repo-id", "me/toy"]), r"may not write to me/toy"),
        (("good", [*dataset, good, "--repo-id", "toy"]), r"'toy' names no repository; write OWNER/NAME"),
        (("good", [*dataset, good, "--repo-id", "me/to y"]), r"'me/to y' can not be the name"),
        (("good", [*dataset, good]), r"say where to"),
        (("good", [*dataset, "--repo-id", "me/toy"]), r"say which data set"),
        (("good", [*dataset, tmp_path / "empty", "--repo-id", "me/toy"]), r"empty: holds no Parquet"),
        (("good", [*dataset, bare, "--repo-id", "me/toy"]), r"README\.md: says nothing of a licence"),
        (("good", [*dataset, odd, "--repo-id", "me/toy"]), r"README\.md: its front matter is no YAML"),
        (("good", [*dataset, torn, "--repo-id", "me/toy"]), r"train\.parquet: is no whole Parquet file"),
        (("wrong", ["push", "absent", "--repo-id", "me/toy"]), r"does not know this access token"),
    ]
    for done, (_, wanted) in zip(
        intermezzo(tmp_path, hub.environment(None), *(command for command, _ in cases)), cases, strict=True
    ):
        assert done.code == 1 and not done.out, (wanted, done)
        assert re.search(wanted, done.err) and done.err.count("\n") == 1, (wanted, done)
    assert not hub.repositories and not hub.objects


def test_a_hub_that_is_not_there_is_told_in_one_line(tmp_path):
    data = write_dataset(tmp_path / "data", ("train.parquet",))
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environment = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
        [done] = intermezzo(tmp_path, environment, ("good", ["push", "dataset", data, "--repo-id", "me/toy"]))
    assert done.code == 1 and address in done.err and done.err.count("\n") == 1, done
