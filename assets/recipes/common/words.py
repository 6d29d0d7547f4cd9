"""A tokenizer for captions of a few known words."""

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def word_tokenizer(
    words: Sequence[str], vocabulary: int, longest: int, *, spelled: Sequence[str] = (), parts: int = 1
) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges make each of `words` one token; other words fall into pieces.

    Args:
        words (`Sequence[str]`): All words that captions are made of.
        vocabulary (`int`): Tokens at most, not counting those of `spelled`.
        longest (`int`): Tokens that prompts are cut to by default.
        spelled (`Sequence[str]`): Those of `words` that become several tokens, as `cat<cat_1><cat_2>`, so that an
            embedding has room for what they stand for; multi-vector Textual Inversion does the same.
        parts (`int`): Tokens for each of `spelled`.
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
    further = {word: [f"<{word}_{part}>" for part in range(1, parts)] for word in spelled}
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(rf"\b{word}\b"), word + "".join(rest)) for word, rest in further.items()]
    )
    tokenizer.add_tokens([AddedToken(part, normalized=True) for rest in further.values() for part in rest])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=longest
    )
