"""What a repository on the Hub says of itself: the card of a model, of a data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .hub_needs import pip_line

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "model_card.md"
_BLOCK = re.compile(r"```python\n(.*?)```", re.S)
_INSTALLS = re.compile(r"```bash\n[^`]*pip install")
_IMPORT = re.compile(r"^import intermezzo\b.*\n", re.M)

# How each model is called, after `model` and `processor` have been loaded.
CALLS = {
    "score_vlm": 'print(processor.read(model, Image.open("song.png"))[0])',
    "score_vlm_fused": 'print(processor.read(model, Image.open("song.png"))[0])',
    "style_encoder": (
        'pictures = [Image.open("a.png"), Image.open("b.png")]\n'
        'style = model(**processor(images=pictures, return_tensors="pt")).style\n'
        "print(float(style[0] @ style[1]))  # −1 … 1: how alike they are in style"
    ),
    "native_vlm": (
        'print(processor.read(model, Image.open("song.png"))[0])\n'
        'processor.draw(model, r"\\staff {tabs} \\ts (4 4) 3.3.4 5.3.4 2.2.2 |").save("drawn.png")'
    ),
    "image_vq": (
        'codes = model.encode(processor(Image.open("song.png"))["pixel_values"], by_looks=True)  # a grid\n'
        'processor.pictures(model.decode(codes))[0].save("again.png")'
    ),
    "museformer": ('ids = model.write(16, grammar=processor.grammar)\nprocessor.decode(ids[0]).dump_midi("new.mid")'),
    "summary_bridge": (
        'plan = model.sample_summary_tokens(**processor("a calm night at sea"), num_bars=16)\nprint(plan.shape)'
    ),
    "fractal_midi": 'roll = model.generate(1)\nprocessor.decode(roll[0]).dump_midi("new.mid")',
    "edit": (
        'out = model(**processor("transpose it up a whole tone"))\n'
        "print(processor.decode(out.operation_logits, out.argument_logits)[0])"
    ),
}
_NEEDS = {"Image": "from PIL import Image\n"}
# Stored in half precision, which not every machine computes with well.
_OPTIONS = dict.fromkeys(CALLS, ', dtype="float32"')


def usage(stem: str, auto: str, has_processor: bool) -> str:
    """The lines that load a model from the Hub and call it; `REPO` stands for its name there."""
    names = f"{auto}, AutoProcessor" if has_processor else auto
    call = CALLS.get(stem, "")
    lines = [
        *(line.rstrip("\n") for word, line in _NEEDS.items() if f"{word}." in call),
        f"from transformers import {names}",
        "",
        f'model = {auto}.from_pretrained("REPO", trust_remote_code=True{_OPTIONS.get(stem, "")})',
    ]
    if has_processor:
        lines.append('processor = AutoProcessor.from_pretrained("REPO", trust_remote_code=True)')
    return "\n".join([*lines, *([call] if call else [])])


def for_hub(card: str, stem: str, repo: str, needs: Sequence[str] = ()) -> str:
    """A card as it must read on the Hub: its code loads from there, by the code that comes with the weights.

    Args:
        card: Text of README.md.
        stem: Name of the model.
        repo: `OWNER/NAME`.
        needs: What that code needs installed; said before the first Python, unless the card says it itself.
    """

    def rewrite(block: re.Match[str]) -> str:
        code = _IMPORT.sub("", block[1])
        code = code.replace(f'"checkpoints/{stem}"', f'"{repo}", trust_remote_code=True')
        return f"```python\n{code}```"

    card = _BLOCK.sub(rewrite, card).replace('"REPO"', f'"{repo}"')
    if needs and not _INSTALLS.search(card):
        card = card.replace("```python\n", f"```bash\n{pip_line(list(needs))}\n```\n\n```python\n", 1)
    return card


def make_card(
    stem: str,
    model: Any,
    directory: Path,
    repo: str | None = None,
    has_processor: bool = False,
    needs: Sequence[str] = (),
    **values: Any,
) -> str:
    """The card of a model folder: its own README.md, or the repository's template filled with what is known.

    Args:
        stem: Name of the model.
        model: The loaded model.
        directory: Its folder; a README.md there (which `intermezzo evaluate` writes figures into) is the card.
        repo: `OWNER/NAME` that the code in the card loads from; left out, the card of the folder stays as it is.
        has_processor: Whether the folder has a processor.
        needs: What the exported code needs installed, from `needs_of`.
        **values: Fields of the template (`hardware`, `hours`, `data`, `limits`, ...), in place of what is known.
    """
    if (directory / "README.md").is_file():
        card = (directory / "README.md").read_text(encoding="utf-8")
    else:
        install = {"install": pip_line(list(needs)).removeprefix("pip install ")} if needs else {}
        card = _fill_template(stem, model, directory, has_processor, {**install, **values})
    return card if repo is None else for_hub(card, stem, repo, needs)


def _fill_template(stem: str, model: Any, directory: Path, has_processor: bool, values: dict[str, Any]) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    from .evaluation_report import commit_id
    from .push_to_hub import auto_model_classes

    auto = next((n for n, c in auto_model_classes(type(model.config)).items() if c is type(model)), "AutoModel")
    megabytes = sum(path.stat().st_size for path in directory.glob("*.safetensors")) / 1e6
    known = {
        "model_name": f"Intermezzo {stem}",
        "summary": (type(model).__doc__ or stem).strip().splitlines()[0],
        "usage": usage(stem, auto, has_processor),
        "description": (type(model.config).__doc__ or stem).strip().splitlines()[0],
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "checkpoint_size": f"{megabytes:.1f} MB",
        "training": "Trained with this repository's `train` scripts.",
        "data": "See the repository.",
        "limits": "Not stated.",
        "code_commit": commit_id(),
    }
    data = ModelCardData(license="apache-2.0", library_name="transformers", tags=["intermezzo", "music"])
    return str(ModelCard.from_template(data, template_path=str(TEMPLATE), **{**known, **values}))


def _check_dataset_card(folder: Path) -> None:
    """Refuses a data set that does not say under which licence it stands."""
    import yaml

    card = folder / "README.md"
    if not card.is_file():
        raise InputError(folder, "has no README.md; write a card that says where the data come from and their licence")
    text = card.read_text(encoding="utf-8")
    front = re.match(r"---\n(.*?)\n---\n", text, re.S)
    try:
        known = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError as error:
        raise InputError(card, f"its front matter is no YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(known, dict):
        raise InputError(card, "its front matter is no list of names and values")
    if not re.search(r"licen[cs]e", text, re.I):
        raise InputError(card, "says nothing of a licence; name the one that the data stand under")


def check_dataset(folder: str | Path | None) -> Path:
    """A data set's folder, after a look at whether it can be published.

    Raises:
        InputError: No folder, no Parquet files, a broken one, or a card that is no card or names no licence.
    """
    if folder is None:
        raise InputError(None, "say which data set: push dataset FOLDER")
    folder = Path(folder)
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise InputError(folder, "holds no Parquet files, so it is no data set of ours")
    _check_dataset_card(folder)
    import pyarrow.parquet as pq

    for file in files:
        try:
            pq.read_metadata(file)
        except Exception as error:
            raise InputError(file, "is no whole Parquet file; build it again") from error
    return folder


__all__ = ["CALLS", "check_dataset", "for_hub", "make_card", "usage"]
