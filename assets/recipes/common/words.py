"""A tokenizer for captions of a few known words."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def word_tokenizer(words: Sequence[str], vocabulary: int, longest: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges make each of `words` one token; other words fall into pieces.

    Args:
        words (`Sequence[str]`): All words that captions are made of.
        vocabulary (`int`): Tokens at most.
        longest (`int`): Tokens that prompts are cut to by default.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([word for word in words for _ in range(8)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=longest
    )
