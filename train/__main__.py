"""Starts the training of one model: `accelerate launch train STEM …` or `python -m intermezzo.train STEM …`.

`accelerate launch train` runs this file as a script, outside of its package: hence the absolute imports.
"""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# As a script this folder comes first on the path, and `import loop` or `import arguments` elsewhere would find ours.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]


def stems() -> list[str]:
    """The models that can be trained: one `train_<stem>.py` each."""
    return sorted(path.stem.removeprefix("train_") for path in HERE.glob("train_*.py"))


def main(argv: list[str] | None = None) -> int:
    """Hands the flags after the stem to that model's `main`; its exit status, or 1 after a told error."""
    from intermezzo.processing.errors import InputError
    from intermezzo.train.arguments import refuse_unknown

    argv = list(sys.argv[1:] if argv is None else argv)
    usage = f"usage: accelerate launch train STEM [flags]   (STEM --help lists its flags)\n  STEM: {', '.join(stems())}"
    if not argv or argv[0] in ("-h", "--help"):
        print(usage, file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    try:
        refuse_unknown(argv[:1], stems(), what="model to train")
        script = importlib.import_module(f"intermezzo.train.train_{argv[0]}")
        return int(script.main(argv[1:]) or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
