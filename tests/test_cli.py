"""The command line as a person meets it: help that is quick and teaches, one line for what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

VERBS = ("read", "render", "convert", "train", "evaluate", "push", "serve")
HEAVY = ("torch", "transformers", "numpy", "PIL", "cv2", "datasets", "peft", "evaluate")
EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "intermezzo.cli", *map(str, arguments)]
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_help_lists_the_verbs() -> None:
    done = run("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f" {verb} " in done.stdout


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = (
        "import sys\nfrom intermezzo.cli import main\n"
        f"sys.argv = ['intermezzo', *{[verb] if verb else []!r}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    assert time.monotonic() - started < 10, "generous: the machine may be busy"


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches_by_example(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"intermezzo {verb} " in done.stdout.partition("Examples")[2]


def test_version() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.strip().count(".") == 2


def test_wrong_verb_and_missing_argument_are_usage_errors() -> None:
    for arguments in (("sing",), ("read",), ("read", "x.png", "--lound")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Usage" in done.stderr
        assert "Traceback" not in done.stderr


def test_unknown_model_is_one_line() -> None:
    assert_one_line(run("train", "score_vml", "--max_steps", "1"), "score_vml", "score_vlm")
    assert_one_line(run("evaluate", "score_vml"), "score_vml")
    assert_one_line(run("push", "score_vml", "--export-only", "unused"), "score_vml")


@pytest.mark.slow
def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    """Convert: a good file, an empty one, a missing one, one with an error."""
    good, empty, wrong = tmp_path / "good.alphatex", tmp_path / "empty.gp5", tmp_path / "wrong.alphatex"
    good.write_text("\\staff {tabs}\n3.3.4 5.3.4 r.2 |\n", encoding="utf-8")
    empty.write_bytes(b"")
    wrong.write_text("3.3.4 ( 5.3.4 |\n", encoding="utf-8")
    done = run("convert", empty, tmp_path / "missing.gp", wrong, good, "--to", "mid", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("empty.gp5", "missing.gp", "wrong.alphatex"):
        assert sum(name in line for line in done.stderr.splitlines()) == 1, done.stderr
    assert (tmp_path / "out" / "good.mid").stat().st_size > 20


@pytest.mark.slow
def test_unreadable_pictures_are_told_one_by_one(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("L", (640, 200), 255).save(tmp_path / "blank.png")
    done = run("read", tmp_path, tmp_path / "missing.png", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("empty.png", "corrupt.png", "blank.png", "missing.png"):
        assert any(name in line for line in done.stderr.splitlines()), done.stderr


@pytest.mark.slow
def test_a_picture_that_ends_at_the_tab_is_read_with_a_word_on_it(tmp_path: Path) -> None:
    from PIL import Image

    from intermezzo.space.read_tab import _read_page, _summary
    from intermezzo.space.words import Words

    with Image.open(EXAMPLES / "blues_lick.png") as picture:
        cut = picture.convert("L").crop((0, 104, picture.width, picture.height))
    cut.save(tmp_path / "cut.png")
    done = run("read", tmp_path / "cut.png", EXAMPLES / "bass.png", "--out", tmp_path / "out")
    assert done.returncode == 0 and (tmp_path / "out" / "cut.alphatex").is_file()
    [told] = [line for line in done.stderr.splitlines() if "edge" in line]
    assert "cut.png: tab at the upper edge of the picture" in told
    page = next(_read_page(cut, "cut", None, Words("en")))  # before the model reads
    assert "show a little more of the page" in _summary([{**page, "text": "..."}], [], Words("en"))


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from intermezzo import cli

    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.delenv("INTERMEZZO_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("INTERMEZZO_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main()
