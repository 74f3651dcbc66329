"""Where a sentence ends after an abbreviation, and what in it is a verb: judged by the look of the words.

Georgian has no capital letters, so a full stop that ends an abbreviation says nothing about the sentence. It is taken
to end one where the text or paragraph ends, and where the next word usually begins a sentence (`_STARTERS`).
"""

from __future__ import annotations

import re

_STARTERS = frozenset(
    "მისი მათი ის იგი ისინი ეს ესენი მან მათ მას ამან იმან მაგრამ თუმცა ამიტომ ამიტომაც შესაბამისად ასევე აგრეთვე "
    "ამასთან "
    "ამასთანავე გარდა ჩვენ თქვენ მე შენ როგორც როცა როდესაც თუ აქ იქ დღეს გუშინ ხვალ ახლა მერე ამის ამას ამაში "
    "ამავე ამით სწორედ საერთოდ რატომ რა ვინ სად როდის დიახ ეგ მაშინ უკვე თავად თვითონ".split()
)
_OVER = re.compile(r" *(?:[.!?]|$|\n)")
_NEXT_WORD = re.compile(r" +([ა-ჵ]+)(?![ა-ჵ-])")
_PREVERB = re.compile("(?:გარდა|გადმო|წარმო|აღმო|გამო|ჩამო|შემო|ამო|გადა|წამო|მო|მი|გა|და|შე|ჩა|წა|აღ|წარ|ა)")
_AORIST = re.compile("[ა-ჵ]{2,}(?:ა|ო|ეს|ნენ|ენ)$")
_MASDAR = re.compile("(?:ება|ობა|ვა|მა|ცია|ცდა|ზია|ნა|ლა|ელო|რება|ლო|ეთო)$")
_BEING = frozenset(
    "ეწვია ეწვევა ეკუთვნის სჭირდება ესაჭიროება ეხმარება უჭერს სურს შეუძლია არის იყო იქნება აქვს ჰქონდა ჰყავს გახდა "
    "ხდება უნდა".split()
)
_NOT_VERBS = frozenset("გაერო გაეროს დაუნი".split())


def ends_sentence(text: str, end: int) -> bool:
    """Whether the full stop of an abbreviation that ends at `end` ends the sentence too."""
    if _OVER.match(text, end):
        return True
    word = _NEXT_WORD.match(text, end)
    return word is not None and word[1] in _STARTERS


def looks_like_verb(word: str) -> bool:
    """True for აცხადებს, დაიბადა, გაიმარჯვეს, იყო; False for most nouns (კონსტიტუცია, განცხადება, პრეზიდენტი)."""
    if word in _BEING or (word.endswith(("ებს", "ობს", "ავს", "ევს", "ნენ", "ებენ", "ობენ", "ოდა", "ბიან"))):
        return True
    if word in _NOT_VERBS:
        return False
    if word.startswith("ე") and word.endswith("რა"):  # ესტუმრა, ეხმარა
        return True
    preverb = _PREVERB.match(word)
    if not preverb or not _AORIST.fullmatch(word, preverb.end()):
        return False
    return word[preverb.end()] in "იუე" or not _MASDAR.search(word)  # და-ი-ბადა has the vowel of a verb
