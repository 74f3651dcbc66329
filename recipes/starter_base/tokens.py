"""Texts as the stand-in base's GPT reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from xtts_ka.model.vocabulary import encode_batch, open_vocabulary
from xtts_ka.starter.base_model import starter_vocabulary

SPACE, UNSPOKEN = "[SPACE]", ".,?!"


def tokens_of(texts: Sequence[str], languages: Sequence[str]) -> list[list[int]]:
    """Token ids of lower-cased texts behind their language token, as coqui's tokenizer gives them."""
    found: list[list[int]] = [[]] * len(texts)
    for language in dict.fromkeys(languages):
        own = [number for number, other in enumerate(languages) if other == language]
        for number, ids in zip(own, encode_batch(_tokenizer(), [texts[number].lower() for number in own], language)):
            found[number] = ids
    return found


def spoken_tokens(ids: Sequence[int]) -> list[int]:
    """The place in `ids` of the token that holds it, for each letter of `phonemes.spoken` of their text."""
    letters = ""
    places: list[int] = []
    for place, token in enumerate(map(_tokenizer().id_to_token, ids)):
        for letter in " " if token == SPACE else token if not token.startswith("[") else "":
            if letter in UNSPOKEN or (letter == " " and letters[-1:] in ("", " ")):
                continue
            letters += letter
            places.append(place)
    return places[:-1] if letters.endswith(" ") else places


@cache
def _tokenizer() -> Any:
    return open_vocabulary(starter_vocabulary())
