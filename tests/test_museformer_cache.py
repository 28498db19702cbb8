"""Museformer word by word: the same as all at once, forgetting what can not be seen."""

from __future__ import annotations

import pytest
import torch

from intermezzo.processing.bar_midi_vocabulary import BAR_ID

from .tiny_museformer import batch_of, make, random_text, starts_of

torch.set_num_threads(1)
FINE = (1, 3)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("prompt", [0, 13])
def test_word_by_word_equals_all_at_once(full: bool, prompt: int) -> None:
    """Rows of different bars and padding, over more bars than the reach, from nothing or after a prompt."""
    texts = [random_text(9, 1), random_text(7, 2)]
    ids, mask = batch_of([text[:50] for text in texts], left=True)
    model = make(full_attention=full)
    with torch.no_grad():
        whole = model(ids, mask, use_cache=False).logits
        start = max(prompt, int((mask == 0).sum(1).max()) + 1) if prompt else 0
        if start:
            first = model(ids[:, :start], mask[:, :start])
            cache, found = first.past_key_values, [first.logits]
        else:
            ids, mask = ids[:1], mask[:1]  # an empty cache has no padding
            whole = model(ids, mask, use_cache=False).logits
            cache, found = model.model.start_cache(1), []
        for column in ids[:, start:].unbind(1):
            found.append(model(column[:, None], past_key_values=cache).logits)
    kept = mask.bool()
    torch.testing.assert_close(torch.cat(found, 1)[kept], whole[kept], rtol=1e-4, atol=2e-5)
    assert cache.get_seq_length() == ids.shape[1]


def test_the_cache_forgets_what_can_not_be_seen() -> None:
    text = random_text(40, 3)
    model = make()
    cache = model.model.start_cache(1)
    sizes, active = [], []
    with torch.no_grad():
        for word in text:
            model.model.step(word[None], cache)
            if word == BAR_ID:
                sizes.append(cache.store_bar.shape[1])
                active.append(int(cache.mask[0, : cache.start].sum()) - int(cache.bar))  # without the summaries
    longest = max(b - a for a, b in zip(starts_of(text)[:-1], starts_of(text)[1:], strict=True))
    assert max(sizes) <= (max(FINE) + 1) * longest
    assert max(active) <= len(FINE) * longest
    assert cache.ids.shape[1] <= longest


def test_rows_of_a_cache_can_change_places() -> None:
    texts = torch.stack([random_text(6, s)[:36] for s in (1, 2, 3)])
    model, order = make(), torch.tensor([2, 0, 0])
    with torch.no_grad():
        cache = model(texts[:, :20]).past_key_values
        for column in texts[:, 20:28].unbind(1):
            model(column[:, None], past_key_values=cache)
        cache.reorder_cache(order)
        found = [model(column[:, None], past_key_values=cache).logits for column in texts[order][:, 28:].unbind(1)]
        whole = model(texts[order], use_cache=False).logits[:, 28:]
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-4, atol=2e-5)
    with pytest.raises(NotImplementedError, match="taken back"):
        cache.crop(3)


def test_steered_decoding_with_a_cache_equals_decoding_without() -> None:
    text = random_text(6, 4)[None]
    model = make()
    plan = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1))  # fewer bars than the text has
    with torch.no_grad(), model.inject_summary_tokens(plan):
        whole = model(text, use_cache=False).logits
        cache, found = model.model.start_cache(1), []
        for word in text[0]:
            found.append(model.lm_head(model.model.step(word[None], cache)))
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-4, atol=2e-5)
