"""The models that compose: SummaryBridge, Museformer, and StyleEncoder for pictures, loaded and checked together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError
from .processing.music_wishes import SIDED

if TYPE_CHECKING:
    import torch

#: Bars of a plan as the bridge learns it (`--window_bars`), where its configuration does not say otherwise.
WINDOW_BARS = 16
#: The folder of each model in `checkpoints/`, and how it is called in messages.
NAMES = {"museformer": "Museformer", "summary_bridge": "SummaryBridge", "style_encoder": "StyleEncoder"}


def default_checkpoint(stem: str) -> Path:
    """The checkpoint of a model that comes along."""
    return Path(__file__).resolve().parent / "checkpoints" / stem


@dataclass
class Composer:
    """Loaded models that belong together.

    Attributes:
        museformer: `MuseformerForCausalLM`.
        music: `BarMidiProcessor`.
        bridge: `SummaryBridgeModel`.
        bridge_processor: `SummaryBridgeProcessor`.
        looker: `StyleLooker`, for pictures only.
    """

    museformer: Any
    music: Any
    bridge: Any
    bridge_processor: Any
    looker: Any = None

    def __post_init__(self) -> None:
        """Checks that they fit.

        Raises:
            InputError: Two that do not; both values are named.
        """
        music, bridge = self.museformer.config, self.bridge.config
        if music.full_attention:
            raise InputError(None, "this Museformer has full attention and no summaries: words can not steer it")
        if music.summary_size != bridge.summary_size:
            raise InputError(
                None,
                f"Museformer's summaries have {music.summary_size} numbers, SummaryBridge's {bridge.summary_size}: "
                "they were not learnt together",
            )
        encoder = self.bridge_processor.text_encoder
        if bridge.text_encoder and encoder and bridge.text_encoder != encoder:
            raise InputError(None, f"SummaryBridge learnt from {bridge.text_encoder!r}, its processor uses {encoder!r}")
        if self.looker is None:
            return
        seen = self.looker.model.config
        if seen.embed_size != bridge.text_size or (seen.text_encoder and seen.text_encoder != encoder):
            raise InputError(
                None,
                f"StyleEncoder learnt from {seen.text_encoder!r}, {seen.embed_size} wide, SummaryBridge from "
                f"{encoder!r}, {bridge.text_size} wide: they need the same text encoder",
            )

    @property
    def window_bars(self) -> int:
        """Bars of one plan."""
        return int(getattr(self.bridge.config, "window_bars", None) or WINDOW_BARS)

    def plan(
        self,
        triple: dict[str, torch.Tensor],
        bars: int,
        num_samples: int,
        guidance: float | None,
        steps: int | None,
        generator: torch.Generator,
        sides: Mapping[str, int] | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A plan for each of so many songs.

        The bridge always draws plans of the length it learnt; longer songs chain several of them and shorter ones, and
        the last of a chain, are cut off at their end.

        Args:
            triple: `text_embed`, `text_pooled` and `text_mask` of one text; empty: any music.
            bars: N.
            num_samples: S.
            guidance, steps: See `SummaryBridgeModel.sample_summary_tokens`.
            generator: Of the noise.
            sides: -1 or 1 by attribute, what the text is known to suggest; or `(S, 7)` for each song.

        Returns:
            `(S, N, Z)`.

        Raises:
            InputError: The text encoder's vectors do not fit the bridge.
        """
        window = self.window_bars
        count = -(-bars // window)
        import torch

        known = sides if isinstance(sides, torch.Tensor) else _row_of(sides)
        try:
            plan = self.bridge.sample_summary_tokens(
                **triple, num_bars=window, num_samples=num_samples * count, guidance_scale=guidance,
                num_inference_steps=steps, generator=generator, sides=known,
            )  # fmt: skip
        except ValueError as error:
            raise InputError(None, f"SummaryBridge can not take this: {' '.join(str(error).split())}") from error
        return plan.reshape(num_samples, count * window, -1)[:, :bars]

    def pictured(self, triple: Mapping[str, Any], sides: Mapping[str, int] | None = None) -> dict[str, float]:
        """Sides by attribute, −1 … 1, that a text suggests as a picture; none where it is none.

        Args:
            triple, sides: As `plan` takes them.
        """
        if not triple:
            return {}
        from .modeling.text_wishes import pictured_sides

        found = pictured_sides(self.bridge, **triple, sides=_row_of(sides))[0].tolist()
        return {name: side for name, side in zip(SIDED, found, strict=True) if side}


def _row_of(sides: Mapping[str, int] | None) -> torch.Tensor:
    """Sides by attribute as `(1, 7)`."""
    import torch

    return torch.tensor([[float((sides or {}).get(name, 0)) for name in SIDED]])


def load_composer(
    museformer: str | Path | None = None,
    bridge: str | Path | None = None,
    style_encoder: str | Path | None = None,
    device: str = "auto",
    with_pictures: bool = False,
) -> Composer:
    """The models in float32 on their device, and their processors.

    Args:
        museformer, bridge, style_encoder: Folders or Hub names; those that come along when left out.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        with_pictures: Also load StyleEncoder.

    Raises:
        InputError: A folder is no such checkpoint, the models do not belong together, or the device is not there.
    """
    from .modeling.modeling_museformer import MuseformerForCausalLM
    from .modeling.modeling_summary_bridge import SummaryBridgeModel
    from .processing.processing_museformer import BarMidiProcessor
    from .processing.processing_summary_bridge import SummaryBridgeProcessor

    looker = None
    if with_pictures:
        from .processing.style_looker import StyleLooker

        looker = StyleLooker.from_pretrained(style_encoder or default_checkpoint("style_encoder"), device)
    music = _load("museformer", museformer, MuseformerForCausalLM, BarMidiProcessor, device)
    return Composer(
        *music, *_load("summary_bridge", bridge, SummaryBridgeModel, SummaryBridgeProcessor, device), looker
    )


def _load(stem: str, given: str | Path | None, model: Any, processor: Any, device: str) -> tuple[Any, Any]:
    """One model and its processor."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading takes no time; its bar would stand between the person's own lines
    checkpoint = str(given or default_checkpoint(stem))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        config = Path(checkpoint) / "config.json"
        if config.is_file():
            kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
            if kind != stem:
                raise InputError(checkpoint, f"is a checkpoint of {kind!r}; give one of {stem!r}")
        loaded = model.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
        return loaded, processor.from_pretrained(checkpoint)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(checkpoint, f"does not load as a {NAMES[stem]} checkpoint on {device}: {why}") from error


__all__ = ["NAMES", "WINDOW_BARS", "Composer", "default_checkpoint", "load_composer"]
