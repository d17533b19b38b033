"""A faster tokenizer with the same results as open_clip's."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ftfy import fix_text
from ftfy.badness import is_bad

from workflow_scripts.common.open_clip_files import MAX_WORD, open_clip_module

SimpleTokenizer = open_clip_module("tokenizer").SimpleTokenizer

_SPECIAL = 2  # start and end token
_TOKEN = np.dtype("<u2")
_MAX_CACHED = 1_000_000  # words in the cache, about 200 bytes each
_MAX_CACHED_LENGTH = 64  # characters; longer words rarely occur again
# An ampersand that is not followed by a space may begin an HTML entity.
_ENTITY = re.compile("&(?! )")


class Tokenizer:
    """open_clip's ``SimpleTokenizer`` with a cache of the tokens of words.

    Words are separated by whitespace, which no token spans.
    """

    def __init__(self, context_length: int):
        """Create a tokenizer for a given number of tokens per caption."""
        self.context_length = context_length
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._clean, self._known = Cleaner(self._tokenizer.clean_fn), _Words(self._tokenizer)

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """Tokenize captions as ``SimpleTokenizer`` does.

        A row consists of the start token, the caption's tokens, truncated if necessary, the end
        token and zeros. The published code truncated long captions after the end token had been
        added. The text tower reads the embedding at the largest token, so without the end token it
        was read at an arbitrary word.

        Returns:
            uint16 ``[captions, context_length]``.
        """
        limit = self.context_length - _SPECIAL
        start, end = (np.array([i], _TOKEN).tobytes() for i in self._tokenizer.all_special_ids)
        width, room = self.context_length * _TOKEN.itemsize, limit * _TOKEN.itemsize
        tokens_of, clean = self._known.__getitem__, self._clean
        rows = []
        for caption in captions:
            # Each word has at least one token.
            words = clean(caption).split()[:limit]
            tokens = b"".join(map(tokens_of, words))[:room]
            rows.append((start + tokens + end).ljust(width, b"\0"))
        return np.frombuffer(b"".join(rows), _TOKEN).reshape(len(rows), self.context_length)


class _Words(dict[str, bytes]):
    """A cache of the tokens (uint16) of words."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> bytes:
        tokenizer = self._tokenizer
        tokens: list[int] = []
        for part in tokenizer.pat.findall(word[:MAX_WORD]):
            symbols = "".join(tokenizer.byte_encoder[byte] for byte in part.encode())
            tokens += [tokenizer.encoder[token] for token in tokenizer.bpe(symbols).split(" ")]
            if len(symbols) > _MAX_CACHED_LENGTH:
                del tokenizer.cache[symbols]
        result = np.array(tokens, _TOKEN).tobytes()
        if len(self) < _MAX_CACHED and len(word) <= _MAX_CACHED_LENGTH:
            self[word] = result
        return result


class Cleaner:
    """A faster version of open_clip's cleaning of captions.

    open_clip repairs text with ftfy, replaces HTML entities and converts to lower case. In
    printable text without entities and without signs of wrong decoding, ftfy only replaces single
    characters (quotes, ligatures, full-width forms) and composes accents, which is done here
    directly.

    Args:
        clean: open_clip's function, used for all other text.
    """

    def __init__(self, clean: Callable[[str], str]):
        self._clean = clean
        self._characters = _Characters()

    def __call__(self, caption: str) -> str:
        """Return the cleaned caption; words may be separated by several spaces."""
        if caption.isprintable() and not _ENTITY.search(caption):
            if caption.isascii():
                return caption.lower()
            fixed = self._fixed(caption)
            # A full-width ampersand has become one that may begin an entity.
            if fixed is not None and not _ENTITY.search(fixed):
                return fixed.lower()
        return self._clean(caption)

    def _fixed(self, text: str) -> str | None:
        """Return the result of ftfy, or None if ftfy itself has to be called."""
        if is_bad(text):
            return None
        fixed = self._once(text)
        if fixed == text or (not is_bad(fixed) and self._once(fixed) == fixed):
            return fixed
        return None

    def _once(self, text: str) -> str:
        return unicodedata.normalize("NFC", text.translate(self._characters))


class _Characters(dict[int, str]):
    """A cache of ftfy's replacements of single characters."""

    def __missing__(self, code: int) -> str:
        self[code] = fix_text(chr(code))
        return self[code]
