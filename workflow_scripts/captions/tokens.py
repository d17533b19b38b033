"""Captions to tokens, as open_clip's tokenizer makes them, faster."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np


def _load_tokenizer_module() -> ModuleType:
    """Import ``open_clip.tokenizer`` without ``open_clip``, which takes three times as long."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None  # a requirement, with an __init__
    path = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", path)
    assert spec is not None and spec.loader is not None  # its name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SimpleTokenizer = _load_tokenizer_module().SimpleTokenizer

_SPECIAL = 2  # the start's and the end's
# SimpleTokenizer's pattern for text in lower-case ASCII, where \p{L} is a-z and \p{N} is 0-9.
_ASCII_WORDS = re.compile(
    "<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\\sa-z0-9]+"
)


class Tokenizer:
    """open_clip's ``SimpleTokenizer``, with each word's tokens looked up once.

    Its cleaning (ftfy, HTML entities) changes nothing in printable ASCII without an ampersand,
    so that such text goes without.
    """

    def __init__(self, context_length: int):
        """Make tokens ``[n, context_length]``."""
        self.context_length = context_length
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._known: dict[str, list[int]] = {}

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """Return what ``SimpleTokenizer`` does, as uint16 ``[captions, context_length]``.

        Row by row: start, the caption's tokens as far as there is place, end, zeros. The published
        code cut a long caption after it had added the end, which was lost: the text tower, which
        reads at the largest token, then read at an arbitrary word. Here the end is always there.
        """
        start, end = self._tokenizer.all_special_ids
        result = np.zeros((len(captions), self.context_length), np.uint16)
        for row, caption in zip(result, captions, strict=True):
            tokens = [start, *self._encode(caption), end]
            row[: len(tokens)] = tokens
        return result

    def _encode(self, caption: str) -> list[int]:
        places = self.context_length - _SPECIAL
        if caption.isascii() and caption.isprintable() and "&" not in caption:
            words = _ASCII_WORDS.findall(caption.lower())
        else:
            words = self._tokenizer.pat.findall(self._tokenizer.clean_fn(caption))
        tokens: list[int] = []
        for word in words:
            known = self._known.get(word)
            if known is None:
                known = self._known[word] = self._encode_word(word)
            tokens += known
            if len(tokens) >= places:
                break
        return tokens[:places]

    def _encode_word(self, word: str) -> list[int]:
        tokenizer = self._tokenizer
        symbols = "".join(tokenizer.byte_encoder[byte] for byte in word.encode())
        return [tokenizer.encoder[token] for token in tokenizer.bpe(symbols).split(" ")]
