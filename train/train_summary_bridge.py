"""Trains SummaryBridge, and what it is compared with, on packed summaries and texts.

    python -m intermezzo.datasets_scripts.build_midi --tokens --out data/bar_midi
    accelerate launch train summary_bridge --stage pack --music data/bar_midi --museformer checkpoints/museformer \
        --data packs/bridge --window_bars 8 16 32
    accelerate launch train summary_bridge --data packs/bridge --output_dir RUN --max_minutes 30 --schedule_by time
    accelerate launch train summary_bridge --data packs/bridge --output_dir FLOW --method flow --max_steps 10000
    accelerate launch train summary_bridge --data packs/bridge --output_dir PROMPT --method soft_prompt \
        --museformer checkpoints/museformer --max_steps 10000 --batch_size 8
    accelerate launch train summary_bridge --stage wishes --data packs/bridge --model RUN/best --output_dir WITH_WISHES
    accelerate launch train summary_bridge --stage numbers --music data/bar_midi --model WITH_WISHES --output_dir LAST

The pack is made once: Museformer and the text encoder are frozen, so nothing that they say changes. `--method` chooses
`bridge`, `pinned_bridge` (no noise at the text end), `flow` (from noise), `regression`, or `soft_prompt`. `--smoke`
packs made-up tunes of a small untrained Museformer and takes 4 steps. TensorBoard shows the loss on held-out windows,
and with `asked` the part of the captions' wishes that drawn summaries meet, as a linear probe sees it.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, check_choices, option, parse_arguments

STAGES = ("train", "pack", "wishes", "numbers")
METHODS = ("bridge", "pinned_bridge", "flow", "regression", "soft_prompt", "tiny_bridge")
SMOKE_MUSIC, SMOKE_ENCODER = "made up", "made up"


@dataclass
class SummaryBridgeTrainingArguments(TrainingArguments):
    """The loop's settings, with this model's own defaults."""

    output_dir: str = option("runs/summary_bridge", "folder for checkpoints, logs, best/ and final/")
    batch_size: int = option(128, "windows per batch and process")
    learning_rate: float = option(6e-4, "peak learning rate")
    warmup_steps: int = option(200, "steps of linear warm-up")
    ema_decay: float = option(0.999, "decay of the averaged weights, such as 0.999; 0: none")
    logging_steps: int = option(50, "write loss and rates every so many steps")

    def __post_init__(self) -> None:
        if not (self.max_steps or self.num_epochs or self.max_minutes):
            self.num_epochs = 60.0
        super().__post_init__()


@dataclass
class SummaryBridgeArguments:
    """What only SummaryBridge's training needs."""

    stage: str = option("train", "pack: make the pack --data; train: on it; wishes, numbers: above", choices=STAGES)
    data: str = option("", "folder of the pack")
    method: str = option("bridge", "what is trained", choices=METHODS)
    model: str = option("", "model folder to go on from, in place of a new one")
    prediction_type: str = option("", "of a new bridge: i2sb, x0, flow or epsilon; empty: the method's own")
    condition_dropout: float = option(0.1, "part of the rows that hide their text, for guidance")
    dropout: float = option(0.1, "dropout of a new model")
    text_blur: float = option(0.0, "make half of the texts uncertain, up to this part of the way to the mean; 0: none")
    limit: int = option(0, "take so many training windows only; 0: all")
    validation_windows: int = option(512, "held-out windows to evaluate on; 0: do not evaluate")
    statistics_windows: int = option(6000, "windows that means, whitening and the texts' places are worked out from")
    place_epochs: float = option(6.0, "passes over the captions to fit the texts' places; 0: the line alone")
    wish_size: int = option(256, "wishes: width of the network that reads what texts want")
    wish_epochs: float = option(6.0, "wishes and numbers: its passes over the captions")
    number_captions: int = option(40_000, "numbers: captions of tempos and keys that are drawn evenly")
    second_encoder: str = option("e5", "wishes: another text encoder, by which pictures are compared, too; empty: none")
    glosses: bool = option(True, "wishes: also hear what a dictionary says of Chinese words in English")
    num_prompts: int = option(16, "soft_prompt: words before the first bar")
    music: str = option("", "pack: folder made by build_midi --tokens")
    museformer: str = option("", "pack and soft_prompt: the frozen Museformer's folder")
    text_encoder: str = option("use", "pack: text encoder, as processing.text_encoder names it")
    num_text_tokens: int = option(16, "pack: places of a text's sequence")
    text_prefix: str = option("", "pack: put before each text, as some encoders want")
    window_bars: list[int] = option([16], "pack: bars of a window, one length or several")  # noqa: RUF009
    copies: int = option(
        2, "pack: how often a training piece is there, transposed and faster or slower after the first"
    )
    transpose: int = option(5, "pack: semitones up or down at most")
    tempo: float = option(0.15, "pack: greatest change of tempo, as a part of it")
    captions: int = option(4, "pack: captions of each window at most, half in each language")
    pieces: int = option(0, "pack: chunks of each split at most; 0: all")
    smoke: bool = option(False, "4 steps of a small model on made-up tunes")

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.text_blur <= 1:
            raise InputError(None, f"text_blur is {self.text_blur}; it must be in [0, 1]")
        if not self.place_epochs >= 0:
            raise InputError(None, f"place_epochs is {self.place_epochs}; it must be 0 or more")
        if self.wish_size < 1 or not self.wish_epochs >= 0 or (self.stage in ("wishes", "numbers") and not self.model):
            raise InputError(None, "wishes need --model FOLDER, --wish_size of 1 or more, --wish_epochs of 0 or more")


# --- Pack -------------------------------------------------------------------------------------------------------------


def load_museformer(folder: str) -> Any:
    """The frozen music model.

    Raises:
        InputError: There is none, or it makes no summaries.
    """
    from ..configuration.configuration_museformer import MuseformerConfig
    from ..modeling.modeling_museformer import MuseformerForCausalLM

    if not (Path(folder) / "config.json").is_file() or not folder:
        raise InputError(folder or None, "is no model folder; give --museformer FOLDER, a trained Museformer")
    if MuseformerConfig.from_pretrained(folder).full_attention:
        raise InputError(folder, "has full attention and makes no summaries; give one that does")
    return MuseformerForCausalLM.from_pretrained(folder, dtype="float32").eval().requires_grad_(False)


def fingerprint(model: Any) -> str:
    """Tells other weights of the same model."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def summarizer(museformer: Any, cpu: bool = False) -> Any:
    """Words `(T,)` of a piece to summaries float32 `(N, Z)`."""
    import torch

    museformer = museformer.to("cuda" if torch.cuda.is_available() and not cpu else "cpu")

    def summarize(ids: Any) -> Any:
        words = torch.as_tensor(ids.astype("int64"), device=museformer.device)[None]
        return museformer.get_summary_tokens(words)[0].float().cpu().numpy()

    return summarize


def run_pack(args: SummaryBridgeArguments, training: TrainingArguments) -> dict[str, Any]:
    """Makes the pack; what is there already stays."""
    from ..processing.text_encoder import load_text_encoder
    from .museformer_data import read_pieces
    from .summary_bridge_pack import SPLITS, PackSettings, pack

    if not args.music:
        raise InputError(None, "say what to pack: --music FOLDER (made by build_midi --tokens)")
    settings = PackSettings(
        tuple(args.window_bars), args.copies, args.transpose, args.tempo, args.captions, training.seed
    )
    museformer = load_museformer(args.museformer)
    pieces = {split: read_pieces(args.music, split, args.pieces) for split in SPLITS}
    encode = load_text_encoder(args.text_encoder, args.num_text_tokens, args.text_prefix)
    about = {
        "text_encoder": args.text_encoder, "num_text_tokens": args.num_text_tokens, "text_prefix": args.text_prefix,
        "museformer": fingerprint(museformer), "pieces": args.pieces,
    }  # fmt: skip
    bar_id = museformer.config.bar_token_id
    told = pack(
        args.data, pieces, summarizer(museformer, training.cpu), encode, settings, about, bar_id,
        progress=training.progress,
    )  # fmt: skip
    for split, counts in told["splits"].items():
        print(f"{split}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return told


def smoke_pack(folder: Path) -> Any:
    """Packs made-up tunes of a small untrained Museformer, which it gives back; texts are encoded by a hash."""
    import numpy as np
    import torch

    from ..configuration.configuration_museformer import museformer_tiny
    from ..modeling.modeling_museformer import MuseformerForCausalLM
    from ..processing.text_encoder import EncodedTexts
    from .museformer_data import made_up_pieces
    from .summary_bridge_pack import SPLITS, PackSettings, pack

    torch.manual_seed(0)
    museformer = MuseformerForCausalLM(museformer_tiny()).eval().requires_grad_(False)
    pieces = {split: made_up_pieces(6 if split == "train" else 2, seed, bars=8) for seed, split in enumerate(SPLITS)}

    def encode(texts: Sequence[str]) -> EncodedTexts:
        seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal((5, 8), np.float32) for seed in seeds])
        return EncodedTexts(rows[:, 1:], rows[:, 0], np.ones((len(texts), 4), np.int8))

    settings = PackSettings(window_bars=(8,), captions=2)
    pack(
        folder, pieces, summarizer(museformer, cpu=True), encode, settings,
        {"text_encoder": SMOKE_ENCODER, "museformer": "made up"}, museformer.config.bar_token_id, progress=False,
    )  # fmt: skip
    return museformer


# --- Train ------------------------------------------------------------------------------------------------------------


def build_model(args: SummaryBridgeArguments, data: Any, museformer: Any = None) -> Any:
    """The model to train, new or from a folder.

    Raises:
        InputError: The sizes of a folder's model are not those of the pack, or settings that can not work.
    """
    from ..modeling.modeling_summary_bridge import SummaryBridgeModel
    from .bridge_baselines import METHODS as MAKE
    from .bridge_baselines import SoftPrompt, SoftPromptSizes

    if args.method == "soft_prompt":
        if args.model:
            return SoftPrompt.from_pretrained(args.model, museformer).train()
        return SoftPrompt(museformer, SoftPromptSizes(data.text_size, museformer.config.hidden_size, args.num_prompts))
    if args.model:
        if not (Path(args.model) / "config.json").is_file():
            raise InputError(args.model, "holds no config.json, so it is no model folder")
        model = SummaryBridgeModel.from_pretrained(args.model)
        sizes = (model.config.summary_size, model.config.text_size)
        if sizes != (data.summary_size, data.text_size):
            raise InputError(
                args.model,
                f"takes summaries of {sizes[0]} and texts of {sizes[1]} numbers, the pack has {data.summary_size} and "
                f"{data.text_size}",
            )
        return model
    changes: dict[str, Any] = {"summary_size": data.summary_size, "text_size": data.text_size}
    changes |= {"condition_dropout": args.condition_dropout, "dropout": args.dropout}
    changes |= {"text_encoder": data.about.get("text_encoder", "")}
    if args.prediction_type:
        changes["prediction_type"] = args.prediction_type
    if args.method == "regression":
        changes["condition_dropout"] = 0.0
    try:
        config = MAKE[args.method](**changes)
    except Exception as error:  # huggingface_hub wraps what a validator raises
        raise InputError(None, str(error.__cause__ or error).splitlines()[-1].strip()) from error
    return SummaryBridgeModel(config)


def fit_statistics(model: Any, data: Any, most: int, batch_size: int = 256) -> None:
    """Means, whitening and the texts' places, out of so many windows, one caption of each."""
    import numpy as np

    from .loading import seeded
    from .summary_bridge_data import BridgeCollate

    chosen = np.unique(np.linspace(0, len(data) - 1, min(max(most, 1), len(data))).round().astype(int))
    collate = BridgeCollate(data)
    with seeded(0):
        starts = range(0, len(chosen), batch_size)
        batches = (collate([data[int(k)] for k in chosen[start : start + batch_size]]) for start in starts)
        if hasattr(model, "fit_statistics"):
            model.fit_statistics(batches)
        else:  # a soft prompt looks at texts alone
            model.statistics.fit({**batch, "summary_tokens": batch["summary_tokens"][..., :1]} for batch in batches)


class _Draws:
    """Batches of windows drawn at random, each with one of its captions."""

    def __init__(self, data: Any, collate: Any, epochs: float, batch_size: int, seed: int) -> None:
        import numpy as np

        self.data, self.collate = data, collate
        size = min(batch_size, max(len(data), 1))
        count = math.ceil(epochs * len(data.texts) / size)
        self.rows = np.random.default_rng(seed).integers(0, len(data), (count, size))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return (self.collate([self.data[int(k)] for k in row]) for row in self.rows)


def fit_place(model: Any, data: Any, epochs: float, blur: Any = None, seed: int = 0, batch_size: int = 256) -> None:
    """The network beside the line, on all captions; says how much of the music's means texts explain."""
    from .loading import seeded
    from .summary_bridge_data import BridgeCollate

    if epochs <= 0 or getattr(model, "place", None) is None:
        return
    with seeded(seed):
        explained = model.fit_place(_Draws(data, BridgeCollate(data, blur=blur), epochs, batch_size, seed))
    print(f"texts' places explain {100 * explained:.1f} % of what differs between pieces")


def bridge_loss(model: Any, batch: dict[str, Any]) -> Any:
    """The loss on a batch."""
    return model(**batch).loss


def processor_of(about: Any) -> Any:
    """The processor of the text encoder that a pack was made with; `None` for made-up packs."""
    from ..processing.processing_summary_bridge import SummaryBridgeProcessor

    if about.get("text_encoder", SMOKE_ENCODER) == SMOKE_ENCODER:
        return None
    return SummaryBridgeProcessor(about["text_encoder"], about["num_text_tokens"], about["text_prefix"])


def run_wishes(args: SummaryBridgeArguments, training: TrainingArguments) -> Any:
    """Fits wishes beside the bridge in `--model`, and keeps both in `--output_dir`."""
    from .summary_bridge_data import BridgeWindows
    from .summary_bridge_wishes import keep_with_wishes

    if Path(training.output_dir, "config.json").exists() and not training.overwrite:
        raise InputError(training.output_dir, "holds a model; choose another folder, or say --overwrite")
    data = BridgeWindows(args.data, "train", args.limit)
    model = build_model(args, data)
    processor = processor_of(data.about)
    encode = second = None
    if processor is not None:
        processor.second_encoder = args.second_encoder
        encode, second = processor.encode, processor.encode_second
    settings = (args.wish_size, args.wish_epochs, training.seed, encode, second)
    found = keep_with_wishes(training.output_dir, model, data, *settings)
    if processor is not None:
        processor.second_encoder = args.second_encoder if found.config.second_text_size else ""
        processor.bare = True  # as the lexicon's images were read
        processor.glosses = args.glosses
        processor.save_pretrained(training.output_dir)
    return found


def run(args: SummaryBridgeArguments, training: TrainingArguments, museformer: Any = None) -> Any:
    """Reads the pack, builds the model, trains."""
    import torch

    from .loop import train
    from .summary_bridge_data import BridgeCollate, BridgeWindows, TextBlur
    from .summary_bridge_evaluation import AttributeProbe, BridgeEvaluation, PromptEvaluation

    data = BridgeWindows(args.data, "train", args.limit)
    prompts = args.method == "soft_prompt"
    if prompts and museformer is None:
        museformer = load_museformer(args.museformer)
        if fingerprint(museformer) != data.about["museformer"]:
            raise InputError(args.museformer, f"is not the Museformer that {args.data} was packed with")
    torch.manual_seed(training.seed)
    model = build_model(args, data, museformer)
    blur = TextBlur(data, args.text_blur) if args.text_blur else None
    if not args.model:
        fit_statistics(model, data, args.statistics_windows)
        fit_place(model, data, args.place_epochs, blur, training.seed)
    evaluate: Any = None
    if args.validation_windows:
        held = BridgeWindows(args.data, "validation")
        if prompts:
            evaluate = PromptEvaluation(held, args.validation_windows, training.batch_size)
        else:
            probe = AttributeProbe(model.statistics, data)
            evaluate = BridgeEvaluation(held, probe, args.validation_windows)
    processor = None if prompts else processor_of(data.about)
    collate = BridgeCollate(data, with_tokens=prompts, blur=blur)
    return train(model, data, training, collate=collate, loss_fn=bridge_loss, evaluate_fn=evaluate, processor=processor)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one stage; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags:
        flags += ["--max_steps", "4"]
    args, training = parse_arguments(
        (SummaryBridgeArguments, SummaryBridgeTrainingArguments), flags, prog="train summary_bridge",
        description=__doc__,
    )  # fmt: skip
    museformer = None
    if args.smoke:
        folder = Path(training.output_dir) / "pack"
        museformer = smoke_pack(folder)
        method = "tiny_bridge" if args.method == "bridge" else args.method
        args = replace(args, data=str(folder), method=method, stage="train", validation_windows=4)
        training = replace(
            training, max_minutes=0.0, num_epochs=0.0, batch_size=2, logging_steps=1, warmup_steps=0, overwrite=True
        )
    elif not args.data and args.stage != "numbers":
        raise InputError(None, "say where the pack is, or shall be: --data FOLDER")
    if args.stage == "pack":
        run_pack(args, training)
    elif args.stage == "wishes":
        run_wishes(args, training)
    elif args.stage == "numbers":
        from .summary_bridge_numbers import run_numbers

        run_numbers(args, training)
    else:
        run(args, training, museformer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
