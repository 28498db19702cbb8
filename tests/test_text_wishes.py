"""What texts want of music, and plans that are moved to it: closed forms, keys, pictures, a whole fit, old models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_summary_bridge import SummaryBridgeConfig
from intermezzo.modeling.bridge_layers import TextTriple
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
from intermezzo.modeling.museformer_measures import CENTRES, MEASURES, SPREADS
from intermezzo.modeling.text_wishes import BEYOND, FARTHEST, TextWishes, Wishes
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import MAJOR_PROFILE, MINOR_PROFILE
from intermezzo.processing.processing_summary_bridge import SummaryBridgeProcessor, bare
from intermezzo.processing.text_encoder import EncodedTexts
from intermezzo.train.summary_bridge_pictures import MOST_IMAGES, Pictures, fit_pictures
from intermezzo.train.summary_bridge_wishes import (
    fit_plans,
    in_measure,
    keep_with_wishes,
    wish_loss,
    wish_values,
    with_wishes,
)

torch.set_num_threads(1)
T, Z, FIRST = 8, 32, MEASURES.index("pitch_class_0")


def make(**changes: Any) -> SummaryBridgeModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        summary_size=Z, text_size=T, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        place_size=16, wish_size=32, wish_images=6,
    )  # fmt: skip
    return SummaryBridgeModel(SummaryBridgeConfig(**{**sizes, **changes})).eval()


def texts(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "text_embed": torch.randn(count, 3, T, generator=draw), "text_pooled": torch.randn(count, T, generator=draw),
        "text_mask": torch.ones(count, 3, dtype=torch.long),
    }  # fmt: skip


def sampled(model: SummaryBridgeModel, words: dict[str, torch.Tensor]) -> torch.Tensor:
    return model.sample_summary_tokens(**words, num_bars=4, generator=torch.Generator().manual_seed(3))


def fitted_plans(seed: int = 0) -> tuple[TextWishes, np.ndarray, np.ndarray]:
    """A reader fitted to 2,000 plans whose first numbers are what is measured, with noise beside them."""
    draw = np.random.default_rng(seed)
    plans = draw.standard_normal((2000, Z)) @ (np.eye(Z) + 0.2 * draw.standard_normal((Z, Z)))
    values = plans[:, :7] @ (np.eye(7) + 0.2 * draw.standard_normal((7, 7))) + 0.05 * draw.standard_normal((2000, 7))
    values[:, 6] = np.sign(values[:, 6])
    values[::3, 3] = np.nan  # loudness that no score says
    wishes = TextWishes(T, Z, 16, 0)
    fit_plans(wishes, plans, plans, values)
    return wishes, plans, values


def nothing(count: int) -> Wishes:
    return Wishes(
        torch.zeros(count, 7, dtype=torch.bool), torch.zeros(count, 7), torch.full((count,), -1), torch.zeros(count, 7)
    )


def test_without_wishes_a_model_is_what_it_was() -> None:
    old, new = make(wish_size=0), make()
    assert old.wishes is None and not [name for name in old.state_dict() if name.startswith("wishes")]
    assert not new.load_state_dict(old.state_dict(), strict=False).unexpected_keys
    words = texts(3)
    before = sampled(old, words)
    heard = new.wishes.hear(new.text_triple(*words.values()), new.statistics)
    assert not heard.stated.any() and not heard.pictured.any()  # a new reader hears nothing
    torch.testing.assert_close(sampled(new, words), before, rtol=0, atol=1e-5)


def test_moves_change_one_attribute_alone() -> None:
    wishes, plans, values = fitted_plans()
    said = plans @ wishes.probe[:-1].numpy() + wishes.probe[-1].numpy()
    for column in range(6):
        known = ~np.isnan(values[:, column])
        if column != 3:  # filled up with its mean where nothing was measured
            assert np.corrcoef(said[known, column], values[known, column])[0, 1] > 0.98
    torch.testing.assert_close(wishes.moves @ wishes.probe[:-1], torch.eye(6), atol=2e-3, rtol=0)


def test_stated_values_are_met_and_pictured_sides_are_passed_not_pulled_back() -> None:
    wishes, plans, _ = fitted_plans()
    model = make(wish_size=0)
    plan = torch.from_numpy(plans[:8]).float()[:, None].expand(-1, 4, -1) + 0.3 * torch.randn(8, 4, Z)
    told = nothing(8)
    told.stated[:, 1], told.values[:, 1] = True, 0.7
    told.pictured[:, 2], told.pictured[:, 4] = 1.0, -0.5
    moved = wishes.move(plan, told, model.statistics)
    before, after = (x.mean(1) @ wishes.probe[:-1] + wishes.probe[-1] for x in (plan, moved))
    torch.testing.assert_close(after[:, 1], torch.full((8,), 0.7), atol=0.02, rtol=0)
    wanted = torch.minimum(before[:, 2].clamp(min=BEYOND), before[:, 2] + FARTHEST)
    torch.testing.assert_close(after[:, 2], wanted, atol=0.02, rtol=0)
    torch.testing.assert_close(after[:, 4], before[:, 4].clamp(max=-BEYOND / 2), atol=0.02, rtol=0)
    torch.testing.assert_close(after[:, [0, 3, 5]], before[:, [0, 3, 5]], atol=0.02, rtol=0)
    steps = moved[:, 1:] - moved[:, :-1]
    torch.testing.assert_close(steps, plan[:, 1:] - plan[:, :-1], atol=1e-4, rtol=0)  # the bars' own course stays
    told.values[:, 1] = 1e6
    far = wishes.move(plan, told, model.statistics)
    assert (far - plan).abs().max() < 50  # nothing runs away


def test_tempo_wishes_are_in_the_plans_own_unit() -> None:
    assert in_measure(120.0) == pytest.approx(0.0) and in_measure(240.0) == pytest.approx(2.5)
    wishes, _, _ = fitted_plans()
    low, middle, high = wishes.quartiles[0].tolist()
    assert low < middle < 0 < high  # 76, 104 and 128
    row = np.full((1, 9), np.nan, np.float32)
    row[0, 0], row[0, 8] = 120.0, -1.0
    found = wish_values(row)[0]
    assert found[0] == pytest.approx(0.0) and found[-1] == -1 and np.isnan(found[1:-1]).all()


def test_every_key_that_is_named_is_the_key_of_the_plan() -> None:
    model, wishes = make(wish_size=0), TextWishes(T, Z, 16, 0)
    profiles = [np.asarray(x) / sum(x) for x in (MAJOR_PROFILE, MINOR_PROFILE)]
    wishes.profiles.copy_(torch.from_numpy(np.stack(profiles)))
    told = nothing(24)
    told.stated[:, -1] = True
    told.values[:, -1] = torch.tensor([1.0, -1.0]).repeat_interleave(12)
    told.tonic = torch.arange(24) % 12
    moved = wishes.move(torch.randn(24, 4, Z), told, model.statistics)
    shares = moved[..., FIRST : FIRST + 12].mean(1) * SPREADS[FIRST] + CENTRES[FIRST]
    for row, (share, tonic) in enumerate(zip(shares.numpy(), told.tonic.tolist(), strict=True)):
        np.testing.assert_allclose(share, np.roll(profiles[row // 12], tonic), atol=1e-5)


def test_a_mode_without_a_key_takes_the_nearest_key_and_leaves_the_rest() -> None:
    model, wishes = make(wish_size=0), TextWishes(T, Z, 16, 0)
    profiles = [np.asarray(x) / sum(x) for x in (MAJOR_PROFILE, MINOR_PROFILE)]
    wishes.profiles.copy_(torch.from_numpy(np.stack(profiles)))
    plan = torch.randn(2, 4, Z)
    shares = torch.from_numpy(np.stack([np.roll(profiles[1], 7), np.roll(profiles[0], 4)])).float()
    part = slice(FIRST, FIRST + 12)
    plan[..., part] = ((shares - CENTRES[FIRST]) / SPREADS[FIRST])[:, None]
    told = nothing(2)
    told.pictured[0, -1], told.pictured[1, -1] = -1.0, 1.0  # they are minor and major already
    torch.testing.assert_close(wishes.move(plan, told, model.statistics), plan, atol=1e-5, rtol=0)
    told.pictured[:, -1] *= -1
    turned = wishes.move(plan, told, model.statistics)
    assert (turned[..., part] - plan[..., part]).abs().amax() > 0.1
    torch.testing.assert_close(turned[..., :FIRST], plan[..., :FIRST], atol=1e-5, rtol=0)


def pictures_to_learn(seed: int = 0) -> tuple[Pictures, np.ndarray, np.ndarray, np.ndarray]:
    """40 images in eight wordings and 200 plain texts, 20 images never heard, their sides, and a second encoder's view.

    The first encoder sees five of the seven directions that decide the sides, the second one all of them.
    """
    draw = np.random.default_rng(seed)
    names = draw.standard_normal((60, T))
    names[:, 5:] = 0
    whole = np.concatenate([names[:, :5], draw.standard_normal((60, 2))], axis=1)
    sides = np.sign(whole)
    wordings = np.zeros((8, T))
    wordings[:, 5:] = 4 * draw.standard_normal((8, 3))
    rows = [names[k] + wording for k in range(40) for wording in wordings]
    rows += [draw.standard_normal(T) + np.array([0, 0, 0, 0, 0, 30.0, 0, 0]) for _ in range(200)]  # elsewhere
    image = [(f"image {k}", "en") for k in range(40) for _ in wordings] + [("", "en")] * 200
    wanted = np.concatenate([np.repeat(sides[:40], 8, axis=0), np.zeros((200, 7))])
    second = np.repeat(whole[:40], 8, axis=0) + 0.1 * draw.standard_normal((320, 7))
    found = Pictures(np.array(rows), np.array([1.0] * 320 + [0.0] * 200), image, wanted, second)
    unseen = names[40:] + 4 * np.pad(draw.standard_normal((20, 3)), ((0, 0), (5, 0)))
    return found, unseen, whole[40:], sides[40:]


@pytest.mark.parametrize("room", [40, 25])
def test_pictures_never_heard_are_heard_by_their_likes_however_worded(room: int) -> None:
    pictures, unseen, _, sides = pictures_to_learn()
    wishes = TextWishes(T, Z, 16, room)
    fit_pictures(wishes, pictures)
    part, found = wishes.picture(torch.from_numpy(unseen).float())
    plain = torch.from_numpy(pictures.pooled[-200:]).float()
    assert part.mean() > 0.7 and wishes.picture(plain)[0].mean() < 0.2
    right = (found.numpy() * sides > 0)[:, :5].mean()
    assert right > (0.8 if room == 40 else 0.75) and found.abs().max() <= 1
    with pytest.raises(InputError, match="room for 50"):
        fit_pictures(TextWishes(T, Z, 16, 50), pictures)


def test_a_second_encoder_adds_what_the_first_does_not_hear_and_may_be_missing() -> None:
    pictures, unseen, whole, sides = pictures_to_learn()
    wishes = TextWishes(T, Z, 16, 40, 7)
    fit_pictures(wishes, pictures)
    words, other = torch.from_numpy(unseen).float(), torch.from_numpy(whole).float()
    alone, both = (wishes.picture(words, second)[1].numpy() * sides > 0 for second in (None, other))
    assert both[:, 5:].mean() > 0.8 > alone[:, 5:].mean() + 0.1
    mean = (wishes.pictures(words) + wishes.second(other)) / 2
    torch.testing.assert_close(wishes.picture(words, other)[1], mean.clamp(-1, 1))


def test_many_pictures_weigh_no_more_in_the_gate_than_few() -> None:
    pictures, _, _, _ = pictures_to_learn()
    many = Pictures(
        np.concatenate([np.repeat(pictures.pooled[:320], 5, axis=0), pictures.pooled[320:]]),
        np.concatenate([np.ones(1600), np.zeros(200)]), [("image", "en")] * 1600 + [("", "en")] * 200,
        np.zeros((1800, 7)),
    )  # fmt: skip
    gates = []
    for given in (pictures, many):
        wishes = TextWishes(T, Z, 16, 1)
        fit_pictures(wishes, given)
        gates.append(wishes.gate)
    torch.testing.assert_close(*gates, atol=1e-5, rtol=1e-5)


def test_a_model_hears_a_second_encoder_for_each_of_its_samples() -> None:
    torch.manual_seed(0)
    model = make(second_text_size=5)
    wishes, _, _ = fitted_plans()
    model.wishes.gate[-1], model.wishes.quartiles[:] = 1.0, wishes.quartiles
    model.wishes.probe.copy_(wishes.probe), model.wishes.moves.copy_(wishes.moves)
    model.wishes.second.centres.normal_(), model.wishes.second.suggests.normal_(std=20.0)
    words, second = texts(2), torch.randn(2, 5)

    def songs(**given: torch.Tensor) -> torch.Tensor:
        draw = torch.Generator().manual_seed(3)
        return model.sample_summary_tokens(**words, **given, num_bars=4, num_samples=3, generator=draw)

    heard, turned, alone = songs(text_second=second), songs(text_second=second.flip(0)), songs()
    assert not torch.allclose(heard, alone, atol=0.05) and not torch.allclose(heard, turned, atol=0.05)
    for wrong in (torch.randn(2, 4), torch.randn(4, 5), torch.randn(5)):
        with pytest.raises(ValueError, match="text_second"):
            songs(text_second=wrong)
    both = torch.stack([second, second], dim=1)
    torch.testing.assert_close(songs(text_second=both), heard)
    other = songs(text_second=torch.stack([second, second.flip(0)], dim=1))
    assert not torch.allclose(other, heard, atol=0.05)
    for wrong in (torch.randn(2, 3, 4), torch.randn(4, 2, 5), torch.randn(2, 0, 5)):
        with pytest.raises(ValueError, match="text_second"):
            songs(text_second=wrong)
    plain = make()  # one without a second encoder passes it over
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    told, untold = (
        plain.sample_summary_tokens(**words, **given, num_bars=4, generator=draw)
        for given, draw in zip(({"text_second": second}, {}), draws, strict=True)
    )
    assert torch.equal(told, untold)


def test_no_text_moves_nothing_and_bad_settings_are_named() -> None:
    model = make()
    model.wishes.out.bias.fill_(5.0)
    wishes, _, _ = fitted_plans()
    model.wishes.moves.copy_(wishes.moves)
    triple = model.text_triple(*texts(2).values())
    plan = torch.randn(2, 4, Z)
    assert not torch.allclose(model.wishes.steer(plan, triple, model.statistics), plan, atol=0.1)
    away = TextTriple(triple.embed, triple.pooled, triple.mask, torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(model.wishes.steer(plan, away, model.statistics), plan, atol=1e-5, rtol=0)
    for wrong in ({"wish_size": -1}, {"wish_images": -1}, {"summary_size": 4}):
        with pytest.raises(Exception, match="wish"):
            make(**wrong)


def test_the_reader_learns_which_word_states_what() -> None:
    """Ten words, each stating one attribute with its own value: the loss falls tenfold."""
    torch.manual_seed(0)
    wishes = TextWishes(T, Z, 32, 0).requires_grad_(True)
    words, mask = torch.randn(10, 1, T), torch.ones(10, 1, dtype=torch.long)
    stated = torch.zeros(10, 7)
    stated[torch.arange(10), torch.arange(10) % 7] = 1
    values, key = torch.randn(10, 7), torch.arange(10) % 13
    optimizer = torch.optim.AdamW(wishes.parameters(), 1e-2)
    losses = []
    for _ in range(150):
        loss = wish_loss(wishes.read(words, words[:, 0], mask), stated, values, key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    padded = torch.cat([words, torch.randn(10, 4, T)], dim=1)
    longer = torch.cat([mask, torch.zeros(10, 4, dtype=torch.long)], dim=1)
    alone = wishes.read(words, words[:, 0], mask)[:, :7]
    told = wishes.read(padded * longer[..., None], words[:, 0], longer)[:, :7]
    assert ((alone > 0) == (told > 0)).float().mean() > 0.9  # places out of use say nothing but "no word below 0"


def test_a_whole_fit_is_kept_and_comes_back(tmp_path: Path) -> None:
    from intermezzo.train.summary_bridge_data import BridgeWindows
    from intermezzo.train.train_summary_bridge import main, smoke_pack

    smoke_pack(tmp_path / "pack")
    data = BridgeWindows(tmp_path / "pack", "train")
    bridge = make(wish_size=0, summary_size=data.summary_size, text_size=data.text_size)
    bridge.save_pretrained(tmp_path / "bridge")
    found = keep_with_wishes(tmp_path / "out", bridge, data, 16, 2.0, 0)
    again = SummaryBridgeModel.from_pretrained(tmp_path / "out").eval()
    assert again.config.wish_size == 16 and again.config.wish_images == len(found.wishes.pictures.centres) > 0
    for name, value in bridge.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name  # the bridge itself stays as it was
    words = texts(3)
    assert torch.equal(sampled(again, words), sampled(found.eval(), words))
    with pytest.raises(InputError, match="--model"):
        main(["--stage", "wishes", "--data", str(tmp_path / "pack"), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="overwrite"):
        main(
            ["--stage", "wishes", "--data", str(tmp_path / "pack"), "--output_dir", str(tmp_path / "out"),
             "--model", str(tmp_path / "bridge")]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('A piece called "Fog".', "fog"),
        ('A piece called "A Night in June".', "A Night in June"),
        ('A piece called "I am here".', "I am here"),
        ("Title: Sunday morning.", "Sunday morning"),
        ("Boxing match", "boxing match"),
        ("Music for this picture: a light drizzle.", "a light drizzle"),
        ("写一首叫《毛毛雨》的曲子。", "毛毛雨"),
        ("以“晨雾”为题写一段音乐。", "晨雾"),
        ("为这个画面配乐：河面升起的薄雾。", "河面升起的薄雾"),
        ("流星雨", "流星雨"),
        ("Fog.", "fog"),
        ('Music for "Fog", with a fast tempo.', 'Music for "Fog", with a fast tempo'),
        ("A work for piano. The picture: fog.", "A work for piano. The picture: fog"),
        ("...", "..."),
        (":", ":"),
        ("🎵", "🎵"),
    ],
)
def test_words_that_ask_for_a_picture_are_left_out(text: str, wanted: str) -> None:
    assert bare(text) == wanted and bare(bare(text)) == wanted


def test_a_processor_reads_bare_texts_only_when_told(tmp_path: Path) -> None:
    seen: list[str] = []

    def encode(texts: Any) -> EncodedTexts:
        seen.extend(texts)
        return EncodedTexts(
            np.zeros((len(texts), 1, 2), np.float32), np.zeros((len(texts), 2)), np.ones((len(texts), 1))
        )

    for told in (False, True):
        SummaryBridgeProcessor(bare=told).save_pretrained(tmp_path)
        processor = SummaryBridgeProcessor.from_pretrained(tmp_path)
        processor.encode = encode  # type: ignore[method-assign]
        processor(["Title: Fog."])
    assert seen == ["Title: Fog.", "fog"]


def test_images_come_from_the_training_split_of_the_lexicon_alone(tmp_path: Path) -> None:
    from intermezzo.datasets_scripts.imagery import load_lexicon, load_sides
    from intermezzo.train.summary_bridge_data import BridgeWindows
    from intermezzo.train.train_summary_bridge import smoke_pack

    smoke_pack(tmp_path / "pack")
    data = BridgeWindows(tmp_path / "pack", "train")
    asked: set[str] = set()

    def encode(texts: Any) -> EncodedTexts:
        asked.update(texts)
        rows = np.random.default_rng(0).standard_normal((len(texts), data.text_size), np.float32)
        return EncodedTexts(rows[:, None], rows, np.ones((len(texts), 1), np.int8))

    bridge = make(wish_size=0, summary_size=data.summary_size, text_size=data.text_size)
    found = with_wishes(bridge, data, 16, 0.0, encode=encode)
    training = [image for image in (*load_lexicon(), *load_sides()) if image.split == "train"]
    held = {
        word for image in load_lexicon() if image.split != "train" for k in ("en", "zh") for word in image.phrases(k)
    }
    assert len(found.wishes.pictures.centres) == min(2 * len(training), MOST_IMAGES) and not asked & held


def test_what_is_known_of_an_image_goes_before_what_is_heard_and_not_before_what_is_stated() -> None:
    wishes, plans, _ = fitted_plans()
    model = make(wish_size=0)
    plan = torch.from_numpy(plans[:6]).float()[:, None].expand(-1, 4, -1)
    told = nothing(6)
    told.stated[:, 1], told.values[:, 1], told.pictured[:, 2] = True, 0.5, -1.0
    wishes.hear = lambda text, statistics, second, gloss: told  # type: ignore[method-assign, assignment]
    known = torch.zeros(2, 7)
    known[0, 1], known[0, 2], known[1, 0] = -1, 1, 1  # for the first three plans, and for the last three
    moved = wishes.steer(plan, None, model.statistics, known)  # type: ignore[arg-type]
    before, after = (x.mean(1) @ wishes.probe[:-1] + wishes.probe[-1] for x in (plan, moved))
    torch.testing.assert_close(after[:, 1], torch.full((6,), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(after[:3, 2], before[:3, 2].clamp(min=BEYOND), atol=0.02, rtol=0)
    torch.testing.assert_close(after[3:, 2], before[3:, 2].clamp(max=-BEYOND), atol=0.02, rtol=0)
    middle, high = wishes.quartiles[0, 1:].tolist()
    fast = middle + BEYOND * (high - middle)
    torch.testing.assert_close(after[3:, 0], before[3:, 0].clamp(min=fast), atol=0.02, rtol=0)
    torch.testing.assert_close(after[:3, 0], before[:3, 0], atol=0.02, rtol=0)
