"""Captions to tokens, as open_clip's tokenizer makes them, faster."""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ftfy import fix_text
from ftfy.badness import is_bad


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
_TOKEN = np.dtype("<u2")
_MAX_KNOWN = 1_000_000  # words whose tokens are kept, some 200 bytes each
_LONG = 64  # characters; a longer word hardly comes again
# An ampersand before anything but a blank may begin an HTML entity.
_ENTITY = re.compile("&(?! )")


class Tokenizer:
    """open_clip's ``SimpleTokenizer``, with each word's tokens looked up once.

    A word is what stands between blanks: no token reaches across one.
    """

    def __init__(self, context_length: int):
        """Make tokens ``[n, context_length]``."""
        self.context_length = context_length
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._clean, self._known = Cleaner(self._tokenizer.clean_fn), _Words(self._tokenizer)

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """Return what ``SimpleTokenizer`` does, as uint16 ``[captions, context_length]``.

        Row by row: start, the caption's tokens as far as there is place, end, zeros. The published
        code cut a long caption after it had added the end, which was lost: the text tower, which
        reads at the largest token, then read at an arbitrary word. Here the end is always there.
        """
        places = self.context_length - _SPECIAL
        start, end = (np.array([i], _TOKEN).tobytes() for i in self._tokenizer.all_special_ids)
        width, room = self.context_length * _TOKEN.itemsize, places * _TOKEN.itemsize
        tokens_of, clean = self._known.__getitem__, self._clean
        rows = []
        for caption in captions:
            # Each word has a token at least.
            words = clean(caption).split()[:places]
            tokens = b"".join(map(tokens_of, words))[:room]
            rows.append((start + tokens + end).ljust(width, b"\0"))
        return np.frombuffer(b"".join(rows), _TOKEN).reshape(len(rows), self.context_length)


class _Words(dict[str, bytes]):
    """The tokens of words, uint16 each, found as they are asked for."""

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> bytes:
        tokenizer = self._tokenizer
        tokens: list[int] = []
        for part in tokenizer.pat.findall(word):
            symbols = "".join(tokenizer.byte_encoder[byte] for byte in part.encode())
            tokens += [tokenizer.encoder[token] for token in tokenizer.bpe(symbols).split(" ")]
        result = np.array(tokens, _TOKEN).tobytes()
        if len(self) < _MAX_KNOWN and len(word) <= _LONG:
            self[word] = result
        return result


class Cleaner:
    """open_clip's cleaning of a caption, without most of its work where that changes nothing.

    It repairs text with ftfy, replaces HTML entities and lowers the case. In printable text
    without entities that does not look as if it had been decoded wrongly, ftfy changes single
    characters (quotes, ligatures, wide forms) and composes accents, and that is all.

    Args:
        clean: open_clip's own.
    """

    def __init__(self, clean: Callable[[str], str]):
        self._clean = clean
        self._characters = _Characters()

    def __call__(self, caption: str) -> str:
        """Return the cleaned caption; there may be more than one blank between words."""
        if caption.isprintable() and not _ENTITY.search(caption):
            if caption.isascii():
                return caption.lower()
            fixed = self._fixed(caption)
            # What was a wide ampersand may begin an entity now.
            if fixed is not None and not _ENTITY.search(fixed):
                return fixed.lower()
        return self._clean(caption)

    def _fixed(self, text: str) -> str | None:
        """Return what ftfy makes of a text, or None if that needs ftfy."""
        if is_bad(text):
            return None
        fixed = self._once(text)
        if fixed == text or (not is_bad(fixed) and self._once(fixed) == fixed):
            return fixed
        return None

    def _once(self, text: str) -> str:
        return unicodedata.normalize("NFC", text.translate(self._characters))


class _Characters(dict[int, str]):
    """What ftfy makes of single characters, found as they are asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = fix_text(chr(code))
        return self[code]
