"""Rules against transcriptions written out by hand from the description in the module's head, not from its output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.errors import UserError
from xtts_ka.georgian import phonology
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS


def _table(text: str) -> list[tuple[str, list[str]]]:
    return [(line.split()[0], line.split()[1:]) for line in text.strip().splitlines()]


ALPHABET = _table("""
ა ɑ
ბ b
გ ɡ
დ d
ე ɛ
ვ v
ზ z
თ tʰ
ი i
კ kʼ
ლ l
მ m
ნ n
ო ɔ
პ pʼ
ჟ ʒ
რ r
ს s
ტ tʼ
უ u
ფ pʰ
ქ kʰ
ღ ɣ
ყ qʼ
შ ʃ
ჩ t͡ʃ
ც t͡s
ძ d͡z
წ t͡sʼ
ჭ t͡ʃʼ
ხ x
ჯ d͡ʒ
ჰ h
ჱ ɛ j
ჲ j
ჳ w i
ჴ qʰ
ჵ ɔː
""")

BROAD = _table("""
დედა d ɛ d ɑ
მამა m ɑ m ɑ
თბილისი tʰ b i l i s i
ქართული kʰ ɑ r tʰ u l i
საქართველო s ɑ kʰ ɑ r tʰ v ɛ l ɔ
გამარჯობა ɡ ɑ m ɑ r d͡ʒ ɔ b ɑ
მადლობა m ɑ d l ɔ b ɑ
წყალი t͡sʼ qʼ ɑ l i
პური pʼ u r i
ღვინო ɣ v i n ɔ
ყველი qʼ v ɛ l i
ხაჭაპური x ɑ t͡ʃʼ ɑ pʼ u r i
ძმა d͡z m ɑ
ბაყაყი b ɑ qʼ ɑ qʼ i
ჭიქა t͡ʃʼ i kʰ ɑ
ჩიტი t͡ʃ i tʼ i
ცეცხლი t͡s ɛ t͡s x l i
ჯაჭვი d͡ʒ ɑ t͡ʃʼ v i
ჟანგი ʒ ɑ n ɡ i
ჰაერი h ɑ ɛ r i
შენ ʃ ɛ n
ზღვა z ɣ v ɑ
მთვარე m tʰ v ɑ r ɛ
მზე m z ɛ
ვარსკვლავი v ɑ r s kʼ v l ɑ v i
წვიმა t͡sʼ v i m ɑ
თოვლი tʰ ɔ v l i
ფოთოლი pʰ ɔ tʰ ɔ l i
ტყე tʼ qʼ ɛ
ქვა kʰ v ɑ
კაცი kʼ ɑ t͡s i
ქალი kʰ ɑ l i
ბავშვი b ɑ v ʃ v i
სკოლა s kʼ ɔ l ɑ
წიგნი t͡sʼ i ɡ n i
მასწავლებელი m ɑ s t͡sʼ ɑ v l ɛ b ɛ l i
ძაღლი d͡z ɑ ɣ l i
ცხენი t͡s x ɛ n i
ძროხა d͡z r ɔ x ɑ
ღორი ɣ ɔ r i
თევზი tʰ ɛ v z i
კვერცხი kʼ v ɛ r t͡s x i
მარილი m ɑ r i l i
შაქარი ʃ ɑ kʰ ɑ r i
თაფლი tʰ ɑ pʰ l i
ვაშლი v ɑ ʃ l i
მსხალი m s x ɑ l i
ყურძენი qʼ u r d͡z ɛ n i
ერთი ɛ r tʰ i
ორი ɔ r i
სამი s ɑ m i
ოთხი ɔ tʰ x i
ხუთი x u tʰ i
ექვსი ɛ kʰ v s i
შვიდი ʃ v i d i
რვა r v ɑ
ცხრა t͡s x r ɑ
ათი ɑ tʰ i
ასი ɑ s i
ათასი ɑ tʰ ɑ s i
გვფრცქვნი ɡ v pʰ r t͡s kʰ v n i
მწვრთნელი m t͡sʼ v r tʰ n ɛ l i
ჯიხვი d͡ʒ i x v i
ჟურნალი ʒ u r n ɑ l i
პეპელა pʼ ɛ pʼ ɛ l ɑ
ჭინჭველა t͡ʃʼ i n t͡ʃʼ v ɛ l ɑ
უთხარი u tʰ x ɑ r i
""")

# Rule 1 labialisation, 2 ვ as f and w, 3 final stops, 4 ŋ, 5 dark l, and words that only look as if a rule applied.
NARROW = _table("""
ცხვარი t͡s xʷ ɑ r i
გვარი ɡʷ ɑ r i
ქვა kʰʷ ɑ
ზღვა z ɣʷ ɑ
კვერცხი kʼʷ ɛ r t͡s x i
ყველი qʼʷ ɛ l i
ღვინო ɣʷ i n ɔ
წვიმა t͡sʼʷ i m ɑ
შვიდი ʃʷ i d i
რვა rʷ ɑ
ჯაჭვი d͡ʒ ɑ t͡ʃʼʷ i
მთვარე m tʰʷ ɑ r ɛ
საქართველო s ɑ kʰ ɑ r tʰʷ ɛ ɫ ɔ
ხვალ xʷ ɑ l
თქვენ tʰ kʰʷ ɛ n
სვეტი sʷ ɛ tʼ i
ძველი d͡zʷ ɛ l i
მწვანე m t͡sʼʷ ɑ n ɛ
ალვა ɑ ɫʷ ɑ
გაცვლა ɡ ɑ t͡s w ɫ ɑ
გეგმვა ɡ ɛ ɡ m v ɑ
კავკასია kʼ ɑ f kʼ ɑ s i ɑ
ავტორი ɑ f tʼ ɔ r i
ბავშვი b ɑ f ʃʷ i
ექვსი ɛ kʰ f s i
თავს tʰ ɑ f s
გვრიტი ɡ w r i tʼ i
მოკვდა m ɔ kʼ w d ɑ
ვარსკვლავი v ɑ r s kʼ w ɫ ɑ v i
თოვლი tʰ ɔ v l i
ივლისი i v l i s i
თევზი tʰ ɛ v z i
კარგად kʼ ɑ r ɡ ɑ tʰ
ლამაზად ɫ ɑ m ɑ z ɑ tʰ
ვაკეთებ v ɑ kʼ ɛ tʰ ɛ pʰ
ხატავ x ɑ tʼ ɑ v
ვაზ v ɑ z
ბაღ b ɑ ɣ
ვაჟ v ɑ ʒ
ბანკი b ɑ ŋ kʼ i
ჯანგი d͡ʒ ɑ ŋ ɡ i
მანქანა m ɑ ŋ kʰ ɑ n ɑ
ინკვიზიტორი i ŋ kʼʷ i z i tʼ ɔ r i
კონცერტი kʼ ɔ n t͡s ɛ r tʼ i
ბანხი b ɑ n x i
ბაგ b ɑ kʰ
თანხად tʰ ɑ n x ɑ tʰ
ლამაზი ɫ ɑ m ɑ z i
ლომი ɫ ɔ m i
ლურჯი ɫ u r d͡ʒ i
ქალაქი kʰ ɑ ɫ ɑ kʰ i
ხელი x ɛ l i
ლექსი l ɛ kʰ s i
თბილისი tʰ b i l i s i
სახლში s ɑ x l ʃ i
სახლამდე s ɑ x ɫ ɑ m d ɛ
დათვს d ɑ tʰ f s
ჴვა qʰʷ ɑ
დედა d ɛ d ɑ
გზა ɡ z ɑ
""")


def _flat(chunks: list[tuple[str, ...]]) -> list[str]:
    return [phone for chunk in chunks for phone in chunk]


@pytest.mark.parametrize(("word", "phones"), ALPHABET + BROAD)
def test_broad_transcription(word, phones):
    assert _flat(phonology.broad_chunks(word)) == phones


@pytest.mark.parametrize(("word", "phones"), NARROW)
def test_narrow_transcription(word, phones):
    assert _flat(phonology.narrow_chunks(word)) == phones


FINAL_FRICATIVES = _table("""
ხატავ x ɑ tʼ ɑ f
ვაზ v ɑ s
ბაღ b ɑ x
ვაჟ v ɑ ʃ
მეჯ m ɛ t͡ʃ
ვაზი v ɑ z i
კარგად kʼ ɑ r ɡ ɑ tʰ
""")

INITIAL_STOPS = _table("""
დედა d̥ ɛ d ɑ
ბაბუა b̥ ɑ b u ɑ
გოგო ɡ̊ ɔ ɡ ɔ
გრძნობა ɡ̊ r d͡z n ɔ b ɑ
ადგილი ɑ d ɡ i l i
""")


@pytest.mark.parametrize(("word", "phones"), FINAL_FRICATIVES)
def test_final_fricatives_are_voiceless_by_option(word, phones):
    assert _flat(phonology.narrow_chunks(word, optional=["final_fricatives"])) == phones


@pytest.mark.parametrize(("word", "phones"), INITIAL_STOPS)
def test_initial_stops_are_weak_by_option(word, phones):
    assert _flat(phonology.narrow_chunks(word, optional=["initial_stops"])) == phones


def test_enough_is_checked_by_hand():
    assert len(BROAD) >= 60 and len(NARROW) >= 40 and len(ALPHABET) == 38
    assert len({word for word, _ in BROAD}) == len(BROAD) and len({word for word, _ in NARROW}) == len(NARROW)


def test_a_letter_by_itself_is_named_not_devoiced():
    for letter in phonology.CONVENTION:
        assert phonology.narrow_chunks(letter) == phonology.broad_chunks(letter)


def test_inventory_is_the_thirty_three_phonemes_in_order_then_the_archaic_ones():
    symbols = phonology.inventory()
    assert symbols[:33] == [phones[0] for _, phones in ALPHABET[:33]] and len(set(symbols)) == len(symbols)
    assert symbols[33:] == ["j", "w", "qʰ", "ɔː"]


@given(st.text(alphabet=GEORGIAN_LETTERS + ARCHAIC_LETTERS, max_size=12))
def test_rules_stay_inside_their_inventory_and_give_one_chunk_a_letter(word):
    broad, narrow = phonology.broad_chunks(word), phonology.narrow_chunks(word, optional=phonology.OPTIONAL_RULES)
    assert len(broad) == len(narrow) == len(word)
    assert set(_flat(broad)) <= set(phonology.inventory())
    assert set(_flat(narrow)) <= set(phonology.inventory(narrow=True))
    assert len(_flat(narrow)) == len(_flat(broad)) - sum(not chunk for chunk in narrow)


def test_convention_overrides_reach_every_level():
    convention = phonology.convention_with({"ა": "a", "კ": "k'", "თ": "t", "ჱ": "e"})
    assert _flat(phonology.broad_chunks("კართჱ", convention)) == ["k'", "a", "r", "t", "e"]
    assert _flat(phonology.narrow_chunks("კვად", convention)) == ["k'ʷ", "a", "t"]
    assert phonology.CONVENTION["ა"] == ("ɑ",)


@pytest.mark.parametrize("overrides", [{"a": "ɑ"}, {"ა": ""}, {"ა": "  "}, {"აბ": "x"}, {"": "x"}])
def test_convention_that_cannot_be_used_is_named(overrides):
    with pytest.raises(UserError, match="phonemes.convention"):
        phonology.convention_with(overrides)


@pytest.mark.parametrize(
    ("word", "latin"),
    [
        ("შავი", "shavi"), ("ჩაი", "chai"), ("ჭამა", "chama"), ("ხე", "khe"), ("ღამე", "ghame"), ("ცა", "tsa"),
        ("წელი", "tseli"), ("ძმა", "dzma"), ("ჟანგი", "zhangi"), ("ჯარი", "jari"), ("ყველა", "qvela"),
        ("თბილისი", "tbilisi"), ("ტაძარი", "tadzari"), ("პაპა", "papa"), ("ფული", "puli"), ("კაკალი", "kakali"),
        ("ქალაქი", "kalaki"), ("ჰაერი", "haeri"), ("ჲ", "y"), ("ჵ", "o"), ("ჱ", "ey"), ("ჳ", "vi"), ("ჴ", "q"),
    ],
)  # fmt: skip
def test_romanised_spelling(word, latin):
    assert phonology.romanise(word) == latin


@given(st.text(alphabet=GEORGIAN_LETTERS + ARCHAIC_LETTERS, max_size=8))
def test_romanised_spelling_is_plain_latin(word):
    latin = phonology.romanise(word)
    assert latin.isascii() and (latin == "" or (latin.isalpha() and latin.islower()))
