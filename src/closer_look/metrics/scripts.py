"""Splitting of texts in any script into words, for ROUGE and for key facts."""

from __future__ import annotations

import unicodedata

import regex

# Scripts without spaces between words, or before particles: each character counts as a word.
_CHARACTERS = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
)
_WORD = regex.compile(rf"[{_CHARACTERS}]\p{{M}}*|[\w--_--[{_CHARACTERS}]]+", regex.VERSION1)
_NAME = regex.compile(rf"[{_CHARACTERS}]\p{{M}}*|[\w--_--[{_CHARACTERS}]]+[+#]*", regex.VERSION1)
SPACED_WORD = regex.compile(rf"[\w--[{_CHARACTERS}--\p{{Hangul}}]]+", regex.VERSION1)
"""A word of a script that has spaces between words, in the text as it stands."""
_INVISIBLE = regex.compile(r"\p{Cf}")  # joiners, direction marks


def words(text: str) -> list[str]:
    """Split a text into words, whatever its script.

    Case, punctuation and the encoding of accents are ignored; accents are not. In scripts without
    spaces between words, each character is a word.
    """
    return _WORD.findall(_folded(text))


def names(text: str) -> list[str]:
    """Split a text into words as ``words`` does, with the signs that end a name ("C++", "A+")."""
    return _NAME.findall(_folded(text))


def _folded(text: str) -> str:
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return unicodedata.normalize("NFKC", plain)  # again: case folding may decompose characters
