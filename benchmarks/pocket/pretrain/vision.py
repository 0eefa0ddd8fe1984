"""Stage 2: the vision encoder, a small CLIP pre-trained on images with their captions."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerBase,
)

from benchmarks.pocket.drawing import SIDE, draw
from benchmarks.pocket.language import caption
from benchmarks.pocket.pretrain.fit import final_loss, fit
from benchmarks.pocket.scenes import BALANCED, Scene, draw_scene

PATCH = 16
WIDTH = 96


def image_processor(side: int = SIDE) -> CLIPImageProcessor:
    """CLIP's own normalisation; an image of another size is resized."""
    return CLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)


def pixels(scenes: list[Scene]) -> torch.Tensor:
    """The scenes' pictures as pixel values [batch, 3, 48, 48], as `image_processor` gives them."""
    processor = image_processor()
    images = np.stack([np.asarray(draw(scene)) for scene in scenes]).astype(np.float32) / 255
    images = (images - np.float32(processor.image_mean)) / np.float32(processor.image_std)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def build_clip(tokenizer: PreTrainedTokenizerBase) -> CLIPModel:
    """Four vision layers, of which LLaVA uses all but the last, and two text layers."""
    shared = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_attention_heads": 4}
    return CLIPModel(
        CLIPConfig(
            vision_config=CLIPVisionConfig(
                num_hidden_layers=4, image_size=SIDE, patch_size=PATCH, **shared
            ).to_dict(),
            text_config=CLIPTextConfig(
                vocab_size=len(tokenizer),
                num_hidden_layers=2,
                max_position_embeddings=128,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **shared,
            ).to_dict(),
            projection_dim=WIDTH,
        )
    )


def caption_batches(
    tokenizer: PreTrainedTokenizerBase, seed: int, size: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches of pictures with captions.

    Colours are balanced: with the usual ones green alone would give away a tree.
    """
    rng = random.Random(seed)
    while True:
        scenes = [draw_scene(rng, "pretraining", BALANCED) for _ in range(size)]
        texts = [caption(scene, rng) + tokenizer.eos_token for scene in scenes]
        text = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
        yield {
            "input_ids": text["input_ids"],
            "attention_mask": text["attention_mask"],
            "pixel_values": pixels(scenes),
            "return_loss": True,
        }


def train_clip(
    tokenizer: PreTrainedTokenizerBase, *, steps: int, size: int, learning_rate: float, seed: int
) -> tuple[CLIPModel, dict]:
    """Return the trained CLIP and the facts for its card."""
    torch.manual_seed(seed)
    model = build_clip(tokenizer)
    held_out = next(caption_batches(tokenizer, seed + 1, 100))

    def retrieval() -> float:
        logits = model(**held_out).logits_per_image
        return (logits.argmax(-1) == torch.arange(len(logits))).float().mean().item()

    losses = fit(
        model,
        caption_batches(tokenizer, seed, size),
        steps=steps,
        learning_rate=learning_rate,
        evaluate=lambda step: f"right caption out of a hundred: {retrieval():.2f}",
        evaluate_every=100,
    )
    with torch.no_grad():
        share = retrieval()
    return model, {
        "steps": steps,
        "batch": size,
        "seed": seed,
        "final loss": final_loss(losses),
        "right caption out of a hundred": round(share, 3),
    }
