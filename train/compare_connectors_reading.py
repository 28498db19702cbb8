"""Measures what `compare_connectors` trained: every rival reads the same systems, by itself, under the same grammar."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.errors import InputError
from .compare_connectors import short_systems, write_json
from .metrics_common import ratio
from .metrics_tab import PairScores, score_pair, summarise

if TYPE_CHECKING:
    from .compare_connectors import CompareArguments

BATCH = 8
READING = ("system_exact", "bar_exact", "note_f1", "parses", "bars_close", "tab_ned", "tab_ned_string", "tab_ned_fret",
           "tab_ned_duration", "tab_ned_technique", "tab_ned_meta")  # fmt: skip
TEXT = ("structure", "tab_completion", "note_completion")
WHITE = 255


def piece_of(row: dict[str, Any]) -> str:
    """The piece that a packed system is of: its name without its number."""
    return row["name"].rpartition(" ")[0] or row["name"]


def batches(rows: Sequence[dict[str, Any]], size: int = BATCH) -> list[list[int]]:
    """Places of rows in batches of like size; pictures of one batch are as tall as each other."""
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["height"], rows[i]["width"]))
    found: list[list[int]] = []
    for i in order:
        if found and len(found[-1]) < size and rows[found[-1][0]]["height"] == rows[i]["height"]:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def blank(row: dict[str, Any]) -> dict[str, Any]:
    """The same system with nothing on the picture."""
    return row | {"canvas": np.full_like(row["canvas"], WHITE)}


class RivalReader:
    """Reads packed systems with one rival; the dense heads have no vote in what is written.

    Args:
        model: `ScoreVLMForConditionalGeneration` or `EncoderDecoderReader`.
        processor: Its `ScoreVLMProcessor`.
        space: Class names of the packed systems.
        room: Longest text in tokens; by then it is closed.
    """

    def __init__(self, model: Any, processor: Any, space: dict[str, list[str]], room: int) -> None:
        from ..processing.alphatex_constraints import TokenGrammar
        from .score_vlm_data import DenseCollate, ReaderCollate

        self.model, self.processor, self.room = model.eval(), processor, room
        self.tokens = TokenGrammar(processor.tokenizer.get_vocab())
        self.pictures = DenseCollate(space, augment=False)
        self.lessons = ReaderCollate(space, processor, augment=False, dense=False)

    def _prompts(self, rows: Sequence[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        from ..processing.multimodal_utils import count_image_tokens

        tokenizer = self.processor.tokenizer
        asked = self.processor.read_prompt()
        counts = [count_image_tokens(row["width"], self.processor.image_column_px) for row in rows]
        texts = [asked.replace("<|image|>", "<|image|>" * count) for count in counts]
        ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        longest = max(map(len, ids))
        padded = [[tokenizer.pad_token_id] * (longest - len(row)) + row for row in ids]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in ids]
        return torch.tensor(padded), torch.tensor(mask)

    @torch.inference_mode()
    def read(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Greedy texts of systems of one height, each knowing the metre that was in force before it."""
        from ..processing.alphatex_choices import DecodingContext
        from ..processing.alphatex_constraints import GrammarLogitsProcessor

        tokenizer, device = self.processor.tokenizer, self.model.device
        ids, mask = self._prompts(rows)
        contexts = [DecodingContext(metre=tuple(row.get("metre", (4, 4)))) for row in rows]
        rules = GrammarLogitsProcessor(self.tokens, context=contexts, max_length=ids.shape[1] + self.room)
        batch = self.pictures(rows)
        out = self.model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), pixel_values=batch["pixel_values"].to(device),
            widths=batch["widths"].to(device), logits_processor=[rules], max_new_tokens=self.room, do_sample=False,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        return [tokenizer.decode(row, skip_special_tokens=True) for row in out[:, ids.shape[1] :]]

    def read_all(self, rows: Sequence[dict[str, Any]], track: Callable[..., Iterable[list[int]]]) -> list[str]:
        """Texts of all systems, in order."""
        texts = [""] * len(rows)
        for places in track(batches(rows)):
            for i, text in zip(places, self.read([rows[i] for i in places]), strict=True):
                texts[i] = text
        return texts

    @torch.inference_mode()
    def losses(self, rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float], list[float]]:
        """With the truth as prefix: nats, tokens that would be chosen right, and tokens, of each system."""
        nats, right, count = ([0.0] * len(rows) for _ in range(3))
        for places in batches(rows):
            batch = {k: v.to(self.model.device) for k, v in self.lessons([rows[i] for i in places]).items()}
            logits = self.model(**batch).logits[:, :-1].float()
            wanted = batch["labels"][:, 1:]
            cost = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")  # 0 where -100
            for row, i in enumerate(places):
                nats[i] = float(cost[row].sum())
                right[i] = float((logits[row].argmax(-1) == wanted[row]).sum())
                count[i] = float((wanted[row] != -100).sum())
        return nats, right, count

    def seconds(self, rows: Sequence[dict[str, Any]]) -> list[float]:
        """Time of each system by itself, after one that is not counted."""
        return timed(lambda row: self.read([row]), rows)


def timed(read: Callable[[dict[str, Any]], Any], rows: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds of each row, after one that is not counted."""
    found = []
    for row in [*rows[:1], *rows]:
        started = time.perf_counter()
        read(row)
        found.append(time.perf_counter() - started)
    return found[1:]


def load_rival(name: str, folder: Path) -> tuple[Any, Any]:
    """A trained rival in float32, and its processor."""
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
    from ..processing.processing_score_vlm import ScoreVLMProcessor
    from .baseline_encoder_decoder import EncoderDecoderReader

    kind = EncoderDecoderReader if name == "encoder_decoder" else ScoreVLMForConditionalGeneration
    return kind.from_pretrained(folder, dtype=torch.float32), ScoreVLMProcessor.from_pretrained(folder)


def same_weights(one: Any, other: Any) -> bool:
    """Whether two models have the same parameters, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Measuring:
    """Reads the held-out systems with each rival.

    Args:
        args: Settings of the comparison.

    Raises:
        InputError: No held-out system is left.
    """

    def __init__(self, args: CompareArguments, space: dict[str, list[str]]) -> None:
        from ..processing.alphatex_constraints import SLACK_TOKENS
        from ..processing.tokenization_alphatex import AlphaTexTokenizer

        self.args, self.space = args, space
        held_out = short_systems(args.packed_validation, space, args)
        known = set(short_systems(args.packed, space, args).texts())
        new = [i for i, (_, row, _) in enumerate(held_out.rows) if row["text"] not in known]
        if not new:
            raise InputError(args.packed_validation[0], "every text of it is among those trained on; give other pieces")
        chosen = np.random.default_rng(args.seed).permutation(new)[: args.n]
        self.rows = [held_out[int(i)] for i in chosen]
        self.pieces = [piece_of(row) for row in self.rows]
        encode = AlphaTexTokenizer().encode
        lengths = [len(encode(row["text"], add_special_tokens=False)) for row in self.rows]
        self.room = max(args.max_text_tokens, *lengths, 0) + 2 * SLACK_TOKENS
        self.facts = {
            "held_out": len(held_out), "also_in_training": len(held_out) - len(new), "n": len(self.rows),
            "pieces": len(set(self.pieces)), "tokens_median": statistics.median(lengths),
            "bars": sum(line.endswith("|") for row in self.rows for line in row["text"].splitlines()),
        }  # fmt: skip

    def _kept(self, path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a file of figures holds, made where it is not there or was measured in another way."""
        names = ("n", "blank_n", "timing_n", "text_n", "seed", "packed_validation", "max_text_tokens", "max_bars", "lm")
        how = {name: getattr(self.args, name) for name in names}
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["how"] == how:
                return kept["figures"]
        figures = make()
        write_json(path, {"how": how, "figures": figures})
        return figures

    def _track(self, what: str) -> Callable[..., Iterable[Any]]:
        from tqdm.auto import tqdm

        return lambda items: tqdm(items, desc=what, disable=not self.args.progress, mininterval=2.0)

    def _scores(self, texts: Sequence[str], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        scores: list[PairScores] = [score_pair(text, row["text"]) for text, row in zip(texts, rows, strict=True)]
        figures = summarise(scores, [piece_of(row) for row in rows], seed=self.args.seed)
        return {name: figures[name].as_dict() for name in READING}

    def rival(self, name: str) -> dict[str, Any]:
        """Figures of one trained rival, as plain values: `reading`, `blank`, `seconds`, `text`."""
        folder = Path(self.args.output_dir) / name
        return self._kept(folder / "figures.json", lambda: self._rival(name, folder))

    def _rival(self, name: str, folder: Path) -> dict[str, Any]:
        torch.set_num_threads(self.args.num_threads)
        model, processor = load_rival(name, folder / "final")
        reader = RivalReader(model, processor, self.space, self.room)
        texts = reader.read_all(self.rows, self._track(f"{name}: reading"))
        with (folder / "readings.jsonl").open("w", encoding="utf-8") as stream:
            for row, text in zip(self.rows, texts, strict=True):
                line = {"name": row["name"], "prediction": text, "truth": row["text"]}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        part = self.rows[: self.args.blank_n]
        unseen = reader.read_all([blank(row) for row in part], self._track(f"{name}: blank pictures"))
        nats, right, count = reader.losses(self.rows)
        options: dict[str, Any] = {"seed": self.args.seed, "unit": "tokens"}
        reading = self._scores(texts, self.rows)
        reading["nats_per_token"] = ratio(nats, count, self.pieces, **options).as_dict()
        reading["token_accuracy"] = ratio(right, count, self.pieces, **options).as_dict()
        return {
            "reading": reading,
            "blank": self._scores(unseen, part) if part else {},
            "seconds": _spread(reader.seconds(self.rows[: self.args.timing_n])),
            "text": self._text_after(name, model, processor.tokenizer),
        }

    # --- text abilities ----------------------------------------------------------------------------------------------

    def _text(self, model: Any, tokenizer: Any) -> dict[str, Any]:
        from .evaluation import EvaluationRequest
        from .evaluation_alphatex_lm import evaluate_alphatex_lm

        request = EvaluationRequest(
            "alphatex_lm", "", n=self.args.text_n, seed=self.args.seed, progress=self.args.progress
        )
        report = evaluate_alphatex_lm(request, model=model.eval(), tokenizer=tokenizer)
        bound = report.sections["grammar on"]
        figures = {name: report.figures[name].as_dict() for name in TEXT}
        return figures | {f"{name}, grammar on": bound[name].as_dict() for name in TEXT if name in bound}

    def _before(self) -> tuple[Any, Any]:
        from .evaluation_alphatex_lm import load_language_model

        return load_language_model(self.args.lm)

    def _text_after(self, name: str, model: Any, tokenizer: Any) -> dict[str, Any]:
        """What a rival can do without a picture; the frozen language model is compared bit for bit, and then known."""
        if not self.args.text_n:
            return {}
        if name == "encoder_decoder":
            return self._text(model.decoder, tokenizer)
        if same_weights(model.language_model, self._before()[0]):
            return self.language_model()["text"] | {"unchanged": True}
        return self._text(model.language_model, tokenizer)

    def language_model(self) -> dict[str, Any]:
        """Text abilities of the language model before it saw a picture."""

        def make() -> dict[str, Any]:
            torch.set_num_threads(self.args.num_threads)
            return {"text": self._text(*self._before())}

        return self._kept(Path(self.args.output_dir) / "language_model.json", make)

    # --- beside the rivals -------------------------------------------------------------------------------------------

    def others(self, shipped: str) -> dict[str, Any]:
        """The language model before, and the reader as shipped where there is one."""
        found = {"language_model": self.language_model()} if self.args.text_n else {}
        if shipped:
            path = Path(self.args.output_dir) / "shipped.json"
            found["shipped"] = self._kept(path, lambda: self._shipped(shipped))
        return found

    def _shipped(self, folder: str) -> dict[str, Any]:
        """The dense heads write a draft, which the language model verifies; one look at each picture."""
        from ..processing.system_canvas import NormalisedSystem
        from ..processing.system_reader import SystemReader

        torch.set_num_threads(self.args.num_threads)
        reader = SystemReader.from_pretrained(folder, views=1)
        place: Any = None  # packed systems have left their page; only boxes on it would need it

        def read(row: dict[str, Any]) -> str:
            system = NormalisedSystem(row["canvas"], row["strings"], row["score"], place)
            return reader.read_systems([system], chained=False)[0].text

        texts = [read(row) for row in self._track("shipped: reading")(self.rows)]
        parameters = sum(p.numel() for p in reader.model.parameters())
        seconds = _spread(timed(read, self.rows[: self.args.timing_n]))
        return {"reading": self._scores(texts, self.rows), "seconds": seconds, "total": parameters}


def _spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles, with how many there were."""
    if not seconds:
        return {}
    low, middle, high = (float(x) for x in np.percentile(seconds, [25, 50, 75]))
    return {"median": middle, "low": low, "high": high, "n": len(seconds)}


__all__ = ["Measuring", "RivalReader", "batches", "blank", "load_rival", "piece_of", "same_weights"]
