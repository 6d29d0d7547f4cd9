"""CLIP score: how well a picture fits its prompt, with weights that the user has."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import HfApi
from PIL.Image import Image

from hasten.app.errors import UserError

HUB_SECONDS = 10


def load_clip_score(source: str) -> Callable[[Sequence[str], Sequence[Image], Sequence[Image]], list[float]]:
    """The CLIP score (Hessel et al. 2021, arXiv 2104.08718) of a model, on the CPU in float32.

    It is 100 times the cosine of the picture's and the prompt's embeddings, and 0 where that is negative; the paper
    scales by 2.5, most libraries by 100. Prompts are cut to the tokens that the model takes.

    Args:
        source: A folder with a CLIP model and its processor, or a hub id.

    Raises:
        UserError: there is none.
    """
    from transformers import CLIPModel, CLIPProcessor

    try:
        local = Path(source).is_dir() or not _hub_gives(source)
        model = CLIPModel.from_pretrained(source, dtype=torch.float32, local_files_only=local).eval()
        processor = CLIPProcessor.from_pretrained(source, local_files_only=local)
    except Exception as error:
        # from a missing file to another kind of model, the folder or the hub is the cause
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise UserError(
            f"'{source}' could not be loaded as a CLIP model ({reason}); give a folder or a hub id for --clip."
        ) from error
    longest = model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def score(prompts: Sequence[str], pictures: Sequence[Image], _references: Sequence[Image]) -> list[float]:
        scores = []
        for prompt, picture in zip(prompts, pictures, strict=True):
            inputs = processor(
                text=[prompt],
                images=[picture.convert("RGB")],
                return_tensors="pt",
                truncation=True,
                max_length=longest,
            )
            output = model(**inputs)
            cosine = F.cosine_similarity(output.image_embeds, output.text_embeds)
            scores.append(100 * max(cosine.item(), 0.0))
        return scores

    return score


def _hub_gives(source: str) -> bool:
    """Whether the hub has `source`; asked once and briefly, because loading would retry for minutes."""
    try:
        HfApi().model_info(source, timeout=HUB_SECONDS)
    except Exception:
        return False
    return True
