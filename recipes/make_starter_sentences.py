"""Writes the second part of data/starter_sentences_ka.txt: sentences made of word lists by templates.

    python recipes/make_starter_sentences.py

The first part, WRITTEN lines, was written by hand and stays. A model that learns to speak needs many different words
and sentences of all lengths: a third of the file takes espeak-ng more than 4 s. The same lists give the same file.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from xtts_ka.core.files import write_text  # noqa: E402
from xtts_ka.georgian.declension import attach  # noqa: E402
from xtts_ka.georgian.numbers import cardinal  # noqa: E402

FILE = ROOT / "data/starter_sentences_ka.txt"
WRITTEN = 471  # lines written by hand
MADE = 2400
LONG, LONG_SHARE = 55, 0.4  # characters from which espeak-ng takes more than 4 s, about; share of such sentences
LONGEST = 130
Word = TypeVar("Word")

# ── nouns and adjectives, in the nominative ──────────────────────────────────────────────────────────────────────────

PEOPLE = """ბიჭი გოგონა ბებია ბაბუა დედა მამა მეზობელი მასწავლებელი ექიმი მძღოლი მწერალი მხატვარი მეთევზე მწყემსი მებაღე
ხელოსანი მეპურე გამყიდველი დარაჯი ჯარისკაცი მოსწავლე სტუდენტი სტუმარი მასპინძელი მოხუცი ვაჭარი მონადირე
მზარეული მომღერალი მსახიობი ჟურნალისტი ინჟინერი მფრინავი მეზღვაური მოგზაური მთამსვლელი ფოსტალიონი მკითხველი
მეცნიერი ისტორიკოსი მოქანდაკე მეფუტკრე მოსამართლე დირექტორი კაპიტანი მცურავი მწვრთნელი ქალი კაცი ყმაწვილი
დურგალი მჭედელი მეწისქვილე მამიდა ბიძა დეიდა ბიძაშვილი სიძე რძალი მეგობარი თანამშრომელი თანაკლასელი მკერავი
ფოტოგრაფი ბიბლიოთეკარი ვეტერინარი ჩოგბურთელი მოჭადრაკე დიასახლისი ყასაბი ზეინკალი მეურნე ექთანი მკერავი
მოცეკვავე მთარგმნელი""".split()
NAMES = """ნინო გიორგი მარიამი ლევანი თამარი დავითი ანა ზურაბი ქეთევანი ირაკლი სალომე ვახტანგი ელენე ნიკო ლუკა მზია
ლანა ჯემალი ჟუჟუნა ფატმანი გურამი ხატია ცისანა ძაბული წიალა ჭიჭიკო ჯუმბერი ყარამანი შორენა ხვიჩა თეა ბესო
რუსუდანი ოთარი პაატა ეკა მანანა სანდრო თორნიკე ღვთისო ჟანა""".split()
ADJECTIVES = """ახალი ძველი დიდი პატარა ლამაზი მძიმე მსუბუქი წითელი მწვანე ლურჯი თეთრი შავი ყვითელი გრძელი მოკლე
ძვირფასი უცნაური მრგვალი ბრტყელი ჭრელი ხის რკინის მინის თიხის ქაღალდის საუკეთესო ვერცხლისფერი""".split()
HUMAN = """ახალგაზრდა ჭკვიანი კეთილი მხიარული მამაცი დაღლილი ჯიუტი თავაზიანი ცნობისმოყვარე გულღია მკაცრი ზრდილობიანი
უცნობი ჭაღარა წვერიანი მაღალი ღონიერი გამოცდილი ნიჭიერი""".split()
PLACES = """ბაღი ეზო ტყე სკოლა ბაზარი სამზარეულო სარდაფი ბიბლიოთეკა სოფელი ოთახი მუზეუმი თეატრი საავადმყოფო ქარხანა
ეკლესია კოშკი გამოქვაბული ნავსადგური სადგური მაღაზია აფთიაქი უნივერსიტეტი სახელოსნო დერეფანი მინდორი ხეობა
ციხესიმაგრე სასადილო სახლი ვენახი მარანი წისქვილი ქალაქი""".split()
CITIES = """თბილისი ქუთაისი ბათუმი ზუგდიდი თელავი გორი რუსთავი მცხეთა ფოთი ახალციხე ამბროლაური მესტია ოზურგეთი ჭიათურა
ბორჯომი ხაშური სიღნაღი საჩხერე წყალტუბო ლაგოდეხი ყაზბეგი საფრანგეთი გერმანია იტალია ესპანეთი პოლონეთი
თურქეთი სომხეთი უკრაინა საბერძნეთი ინგლისი ინდოეთი ჩინეთი იაპონია ეგვიპტე აფრიკა ამერიკა ევროპა აზია""".split()
ON = """მაგიდა სკამი თარო სახურავი ხიდი გზა მთა გორაკი ნაპირი ქუჩა მოედანი კიბე ბალახი ქვიშა ლოდი გემი ბუხარი რაფა
ხალიჩა ბორცვი ბილიკი სცენა კუნძული აივანი""".split()
FOODS = """პური ყველი ხაჭაპური ხინკალი ლობიო მჭადი სუფი თევზი ღვეზელი ვაშლი მსხალი ატამი ყურძენი ლეღვი ბროწეული
საზამთრო ნიგოზი თაფლი მურაბა კარტოფილი სალათი ფხალი საცივი ჩურჩხელა ქათამი ბადრიჯანი კომში ბლინი""".split()
THINGS = """წიგნი გასაღები ჩანთა ქოლგა სანთელი ბეჭედი საათი სურათი ხელთათმანი ქუდი ჩემოდანი ფანქარი რვეული დოქი ჭიქა
კალათა თოკი ჩაქუჩი დანა ბურთი ყუთი ლამპა ხალათი შარფი ჯოხი ბალიში სარკე ბილეთი რუკა სკივრი თასი ქვაბი ნემსი
ღილი ძაფი კომპასი ჭადრაკი გიტარა ფანდური ჩონგური ყულაბა ზარი ტელეფონი კამერა ჟურნალი დაფა ცოცხი ვედრო ბარი
ფიცარი ცული ნაჯახი ხმალი ფარი მშვილდი ისარი""".split()
CLOSED = "კარი ფანჯარა ჭიშკარი კარადა უჯრა ყუთი სკივრი ჩემოდანი სარდაფი სეიფი ფარდა".split()
TEXTS = "წიგნი წერილი ლექსი გაზეთი ზღაპარი მოთხრობა განცხადება კანონი რომანი პიესა დღიური ინსტრუქცია ბარათი".split()
WORKS = "სახლი ღობე კედელი გზა ხიდი სახურავი კიბე მანქანა ველოსიპედი ონკანი ნავი ურემი კარადა სკამი ჭა აივანი".split()
ANIMALS = """ძაღლი კატა ცხენი ძროხა ცხვარი თხა მგელი დათვი მელია კურდღელი ზღარბი ციყვი ირემი ვირი ხარი ღორი ბუ არწივი
მერცხალი ბეღურა ყვავი ძერა წერო იხვი ბატი მამალი წიწილა გველი ბაყაყი ლომი ვეფხვი სპილო მაიმუნი აქლემი ღამურა
თაგვი კაჭკაჭი კოდალა ფუტკარი""".split()
PLANTS = """ვაზი მუხა ნაძვი ფიჭვი ვარდი ია იასამანი ალუბალი ბალი კაკალი თუთა ჭადარი ცაცხვი წიფელი პიტნა ქინძი ტარხუნა
ოხრახუში ხახვი ნიორი კიტრი პომიდორი სიმინდი ხორბალი ბოლოკი ჭარხალი გოგრა""".split()
DISHES = "სადილი ვახშამი საუზმე ჩაი ყავა წვნიანი ნამცხვარი ხაჭაპური მურაბა ფაფა".split()
NATURE = (
    "მზე მთვარე ქარი წვიმა თოვლი ნისლი ზღვა მდინარე ტბა ჩანჩქერი წყარო ცა ყინული სეტყვა ქარიშხალი ცისარტყელა".split()
)
SUBJECTS = """მეგობრობა სიყვარული სიმართლე თავისუფლება ბედნიერება სიზმარი მშვიდობა ისტორია მეცნიერება ხელოვნება მუსიკა
ენა მომავალი წარსული ბუნება ჯანმრთელობა ტრადიცია განათლება სამშობლო ფეხბურთი ამინდი ოჯახი ღვინო კინო სიცოცხლე
შრომა ვაჭრობა აღმოჩენა ტექნიკა სამართალი""".split()
STATES = """ლამაზი ცივი მშვიდი ნათელი საოცარი უსაზღვრო ჩუმი სასიამოვნო შესანიშნავი ბრწყინვალე მრისხანე უჩვეულო გრილი
ბუნდოვანი""".split()
LOOKS = "ლამაზი დიდი უცნაური ჩუმი ძველი შორეული მყუდრო საინტერესო ნაცნობი ცარიელი".split()
SKILLS = """ცურვა ხატვა ცეკვა სიმღერა კითხვა თევზაობა მგზავრობა ძილი საუბარი მუშაობა ქარგვა სწავლა სეირნობა სირბილი
ნადირობა ფიქრი წერა ჭადრაკი ფეხბურთი მოგზაურობა""".split()
UNITS = "ლარი კილომეტრი წუთი გვერდი კილოგრამი სტუმარი ჯარისკაცი ვარსკვლავი ნაბიჯი ხე ძაღლი ბილეთი".split()

# Nouns that lose a vowel before endings that begin with one.
_SYNCOPE = dict(
    pair.split("=")
    for pair in """სოფელ=სოფლ მინდორ=მინდვრ მეზობელ=მეზობლ მასწავლებელ=მასწავლებლ მასპინძელ=მასპინძლ ხელოსან=ხელოსნ
მხატვარ=მხატვრ ჩემოდან=ჩემოდნ მსხალ=მსხლ ატამ=ატმ ხმალ=ხმლ ფიცარ=ფიცრ მამალ=მამლ კურდღელ=კურდღლ ფანჯარ=ფანჯრ
ჭიშკარ=ჭიშკრ კედელ=კედლ ურემ=ურმ ქარხან=ქარხნ სანთელ=სანთლ ბეჭედ=ბეჭდ ფანქარ=ფანქრ მწერალ=მწერლ სტუმარ=სტუმრ
ვაჭარ=ვაჭრ მომღერალ=მომღერლ ბაზარ=ბაზრ მეგობარ=მეგობრ აივან=აივნ ზღაპარ=ზღაპრ ირემ=ირმ ცხვარ=ცხვრ ისარ=ისრ
ნამცხვარ=ნამცხვრ მჭედელ=მჭედლ დურგალ=დურგლ ფუტკარ=ფუტკრ ჭარხალ=ჭარხლ ჭადარ=ჭადრ კაკალ=კაკლ ალუბალ=ალუბლ
ნიორ=ნივრ ხორბალ=ხორბლ თანამშრომელ=თანამშრომლ მოედან=მოედნ დერეფან=დერეფნ მარან=მარნ
ხინკალ=ხინკლ ყურძენ=ყურძნ ნიგოზ=ნიგვზ ქათამ=ქათმ ზეინკალ=ზეინკლ ბუხარ=ბუხრ""".split()
)
_VOWEL_STEMS = ("გიორგი", "ირაკლი", "ჩაი")  # here -ი belongs to the stem

# ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TAKING = {"THINGS": THINGS, "CLOSED": CLOSED, "TEXTS": TEXTS, "WORKS": WORKS}
TAKING |= {"FOODS": FOODS, "DISHES": DISHES, "ANIMALS": ANIMALS, "PLANTS": PLANTS}
# Transitive: what they take, then the third person of the aorist, present and future, and the first of the aorist.
VERBS = [
    row.split()
    for row in """THINGS იყიდა ყიდულობს იყიდის ვიყიდე/THINGS იპოვა პოულობს იპოვის ვიპოვე
THINGS დაკარგა კარგავს დაკარგავს დავკარგე/THINGS გაგზავნა გზავნის გაგზავნის გავგზავნე
THINGS დამალა მალავს დამალავს დავმალე/THINGS შეინახა ინახავს შეინახავს შევინახე/THINGS აიღო იღებს აიღებს ავიღე
THINGS გააკეთა აკეთებს გააკეთებს გავაკეთე/THINGS გარეცხა რეცხავს გარეცხავს გავრეცხე
THINGS გაყიდა ყიდის გაყიდის გავყიდე/THINGS დაათვალიერა ათვალიერებს დაათვალიერებს დავათვალიერე
THINGS მოძებნა ეძებს მოძებნის მოვძებნე/THINGS გატეხა ტეხს გატეხს გავტეხე
THINGS ჩამოკიდა კიდებს ჩამოკიდებს ჩამოვკიდე/CLOSED გააღო აღებს გააღებს გავაღე
CLOSED დაკეტა კეტავს დაკეტავს დავკეტე/CLOSED დახურა ხურავს დახურავს დავხურე
CLOSED შეღება ღებავს შეღებავს შევღებე/TEXTS წაიკითხა კითხულობს წაიკითხავს წავიკითხე
TEXTS დაწერა წერს დაწერს დავწერე/TEXTS თარგმნა თარგმნის გადათარგმნის ვთარგმნე
TEXTS გადაწერა იწერს გადაწერს გადავწერე/TEXTS დახია ხევს დახევს დავხიე/WORKS ააშენა აშენებს ააშენებს ავაშენე
WORKS შეაკეთა აკეთებს შეაკეთებს შევაკეთე/WORKS დაანგრია ანგრევს დაანგრევს დავანგრიე
WORKS გაზომა ზომავს გაზომავს გავზომე/FOODS შეჭამა ჭამს შეჭამს შევჭამე/FOODS გასინჯა სინჯავს გასინჯავს გავსინჯე
FOODS დაჭრა ჭრის დაჭრის დავჭერი/FOODS მოითხოვა ითხოვს მოითხოვს მოვითხოვე/FOODS გაიყო იყოფს გაიყოფს გავიყავი
DISHES მოამზადა ამზადებს მოამზადებს მოვამზადე/DISHES გააცხელა აცხელებს გააცხელებს გავაცხელე
ANIMALS დაინახა ხედავს დაინახავს დავინახე/ANIMALS დახატა ხატავს დახატავს დავხატე
ANIMALS დაიჭირა იჭერს დაიჭერს დავიჭირე/ANIMALS მოარჯულა არჯულებს მოარჯულებს მოვარჯულე
PLANTS დარგო რგავს დარგავს დავრგე/PLANTS მორწყა რწყავს მორწყავს მოვრწყე/PLANTS მოკრიფა კრეფს მოკრეფს მოვკრიფე
PLANTS გასხლა სხლავს გასხლავს გავსხალი""".strip()
    .replace("\n", "/")
    .split("/")
]
GOING = [
    row.split()
    for row in """წავიდა მიდის წავა წავედი/დაბრუნდა ბრუნდება დაბრუნდება დავბრუნდი
გაემგზავრა მიემგზავრება გაემგზავრება გავემგზავრე/გაიქცა გარბის გაიქცევა გავიქეცი/დარჩა რჩება დარჩება დავრჩი
მივიდა მოდის მივა მივედი/ჩავიდა ჩადის ჩავა ჩავედი""".replace("\n", "/").split("/")
]
RESTING = "ზის დგას წევს ისვენებს იცდის მღერის მუშაობს ცეკვავს საუბრობს თამაშობს იცინის ხატავს ცხოვრობს".split()
TALKS = "ფიქრობს ლაპარაკობს წერს კამათობს ოცნებობს".split()
WANTS, LIKES = (
    "მოსწონს სურს ახსოვს სჭირდება ჰქონდა".split(),
    "უყვარს მოსწონს ეზარება ენატრება აინტერესებს ურჩევნია".split(),
)
BEASTS = "გაიქცა დაიძინა გაჩერდა შეშინდა მიიმალა დაეცა გამოჩნდა მოახლოვდა გაუჩინარდა გაიღვიძა".split()
DOES = "ანათებდა ჩანდა შეიცვალა გაძლიერდა გაჩნდა გაქრა დაიწყო შეწყდა".split()

# ── adverbs ──────────────────────────────────────────────────────────────────────────────────────────────────────────

THEN = """გუშინ, დილით, საღამოს, გუშინწინ, ღამით, ზაფხულში, ზამთარში, გაზაფხულზე, შემოდგომაზე, კვირას, შაბათს,
ორშაბათს, სამშაბათს, ოთხშაბათს, ხუთშაბათს, პარასკევს, შუადღისას, გამთენიისას, მოულოდნელად, შარშან,
ახლახან, გვიან ღამით, ამ დილით, იმ დღეს, ერთ საღამოს, სადილის შემდეგ, წვიმის შემდეგ, მზის ჩასვლამდე, ერთი
კვირის წინ, ათი წუთის წინ, რამდენიმე თვის წინ, ბავშვობაში, დღესასწაულის წინ, იანვარში, თებერვალში,
მარტში, აპრილში, მაისში, ივნისში, ივლისში, აგვისტოში, სექტემბერში, ოქტომბერში, ნოემბერში, დეკემბერში""".replace(
    "\n", " "
).split(", ")
NOW = "დღეს, ახლა, ხშირად, იშვიათად, ხანდახან, ყოველდღე, ყოველ დილით, ყოველ საღამოს, ჩვეულებრივ, მალე, ხვალ".split(", ")
HOW = """ნელა სწრაფად ჩუმად ფრთხილად უხმოდ ძლივს ისევ მარტო სიხარულით ღიმილით გაჭირვებით დაუყოვნებლივ საჩქაროდ
გულდასმით უხალისოდ მოხერხებულად ბოლოს მაშინვე კვლავ ხალისით""".split()

# ── forms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def formed(noun: str, ending: str) -> str:
    """The noun with a case ending: (ბაზარი, ის) → ბაზრის, (ბებია, მა) → ბებიამ."""
    stem = noun if noun in _VOWEL_STEMS or not noun.endswith("ი") else noun[:-1]
    shortened = ending in ("ის", "დან", "ით", "თვის", "კენ")
    if shortened and stem[-1] == "ა" and stem[:-1] in _SYNCOPE:
        stem = _SYNCOPE[stem[:-1]] + "ა"
    return attach(_SYNCOPE.get(stem, stem) if shortened else stem, ending)


def plural(noun: str) -> str:
    stem = noun if noun in _VOWEL_STEMS or noun[-1] not in "იაე" else noun[:-1]
    return _SYNCOPE.get(stem, stem) + "ები"


def before(adjective: str, ending: str) -> str:
    """An adjective before a noun: ახალი → ახალმა, ახალ; those in another vowel, and genitives, do not change."""
    return adjective[:-1] + ending if adjective.endswith("ი") else adjective


def joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


class Cases(NamedTuple):
    """A noun phrase: who does something now, who did it, and whom or what it is done to now."""

    nominative: str
    ergative: str
    dative: str


# ── sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Maker:
    """Draws sentences. Each list is gone through in random order before any of its words comes again."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self._left: dict[str, list] = {}

    def one(self, words: Sequence[Word]) -> Word:
        left = self._left.setdefault(repr(words), [])
        if not left:
            left += self.random.sample(list(words), len(words))
        return left.pop()

    def maybe(self, share: float, made: Callable[[], str]) -> str:
        return made() if self.random.random() < share else ""

    # parts of a clause

    def who(self) -> Cases:
        noun = self.one(NAMES) if self.random.random() < 0.35 else self.one(PEOPLE)
        adjective = "" if noun in NAMES else self.maybe(0.4, lambda: self.one(HUMAN))
        forms = (
            (adjective, noun),
            (before(adjective, "მა"), formed(noun, "მა")),
            (before(adjective, ""), formed(noun, "ს")),
        )
        return Cases(*(joined(*form) for form in forms))

    def what(self, words: Sequence[str]) -> tuple[str, str]:
        """A thing in the nominative and dative; some are somebody's, some several, some have an adjective."""
        noun = self.one(words)
        alive = words in (FOODS, DISHES, ANIMALS, PLANTS)
        noun = plural(noun) if self.random.random() < 0.25 and words not in (DISHES, FOODS) else noun
        adjective = "" if alive else self.maybe(0.4, lambda: self.one(ADJECTIVES))
        owner = "" if adjective else self.maybe(0.25, lambda: self.whose())
        return joined(owner, adjective, noun), joined(owner, before(adjective, ""), formed(noun, "ს"))

    def whose(self) -> str:
        return formed(self.one(NAMES if self.random.random() < 0.4 else PEOPLE), "ის")

    def where(self) -> str:
        words, ending = self.one([(PLACES, "ში"), (PLACES, "ში"), (ON, "ზე"), (CITIES, "ში")])
        return formed(self.one(words), ending)

    def company(self) -> str:
        """With whom or for whom."""
        noun = self.one(NAMES if self.random.random() < 0.3 else PEOPLE)
        return self.one([formed(noun, "თან") + " ერთად", formed(noun, "თვის")])

    def how(self) -> str:
        return self.one(HOW)

    # clauses: past tells whether the verb is of the past

    def acting(self, past: bool) -> str:
        kind, aorist, present, future, _ = self.one(VERBS)
        person, (thing, of_thing) = self.who(), self.what(TAKING[kind])
        more = self.one(["", "", self.where(), self.where(), self.company()])
        if past:
            return joined(person.ergative, more, thing, self.maybe(0.25, self.how), aorist)
        return joined(
            person.nominative, more, of_thing, self.maybe(0.25, self.how), self.one([present, present, future])
        )

    def own(self, past: bool) -> str:
        if not past:
            return self.acting(past)
        kind, *_, first = self.one(VERBS)
        return joined(self.maybe(0.5, self.where), self.what(TAKING[kind])[0], self.maybe(0.3, self.how), first)

    def going(self, past: bool) -> str:
        went, goes, will, own = self.one(GOING)
        if past and self.random.random() < 0.3:
            return joined(self.where(), self.maybe(0.4, self.how), own)
        stay = went == "დარჩა"
        start = "" if stay else self.maybe(0.3, lambda: formed(self.one(PLACES + CITIES), "დან"))
        return joined(
            self.who().nominative,
            self.maybe(0.4, self.how),
            start,
            self.where(),
            went if past else self.one([goes, will]),
        )

    def resting(self, past: bool) -> str:
        with_whom = self.maybe(0.2, lambda: formed(self.one(PEOPLE), "თან") + " ერთად")
        return joined(self.who().nominative, self.where(), with_whom, self.maybe(0.3, self.how), self.one(RESTING))

    def talking(self, past: bool) -> str:
        return joined(
            self.who().nominative, self.maybe(0.3, self.where), formed(self.one(SUBJECTS), "ზე"), self.one(TALKS)
        )

    def feeling(self, past: bool) -> str:
        things = (
            (self.what(THINGS)[0], self.one(WANTS))
            if self.random.random() < 0.5
            else (self.one(SKILLS), self.one(LIKES))
        )
        return joined(self.who().dative, self.maybe(0.3, lambda: "ძალიან"), *things)

    def beast(self, past: bool) -> str:
        return joined(self.one(ANIMALS), self.maybe(0.6, self.where), self.maybe(0.3, self.how), self.one(BEASTS))

    def nature(self, past: bool) -> str:
        if past:
            return joined(self.maybe(0.6, self.where), self.one(NATURE), self.one(DOES))
        return joined(self.one(NATURE), self.one(["ძალიან", "მართლაც", "დღეს", "აქ"]), self.one(STATES) + "ა")

    def counted(self, past: bool) -> str:
        number, unit = (
            cardinal(self.random.choice([self.random.randint(2, 100), self.random.randint(101, 1999)])),
            self.one(UNITS),
        )
        verb = self.one(["დავთვალეთ", "დარჩა", "დაგვჭირდა"]) if past else self.one(["გვჭირდება", "გვინდა", "გვყოფნის"])
        return joined(self.maybe(0.4, self.where), number, unit, verb)

    def clause(self, past: bool) -> str:
        makers = [self.acting] * 4 + [self.own, self.going, self.going, self.nature, self.counted]
        makers += [self.beast] if past else [self.resting, self.talking, self.feeling, self.feeling]
        return self.random.choice(makers)(past)

    def timed(self, share: float) -> str:
        past = self.random.random() < 0.6
        return joined(self.maybe(share, lambda: self.one(THEN if past else NOW)), self.clause(past))

    # short and long sentences

    def plain(self) -> str:
        return self.timed(0.4) + self.one(list(".") * 9 + ["!"])

    def asked(self) -> str:
        kind, aorist, *_ = self.one(VERBS)
        start = self.one(["სად", "როდის", "რატომ", "როგორ", "ნუთუ", "მართლა", "ვისთან ერთად", "რამდენჯერ"])
        return joined(start, aorist, self.who().ergative, self.what(TAKING[kind])[0]) + "?"

    def wondered(self) -> str:
        start = self.one(["ვინ", "ხომ არ იცი, ვინ", "გახსოვს, ვინ", "როდის", "რომელი სტუმარი"])
        return (
            joined(start, self.one(["დაბრუნდა", "წამოვიდა", "მოვიდა"]), formed(self.one(PLACES + CITIES), "დან")) + "?"
        )

    def exclaimed(self) -> str:
        state, thing = self.one([(STATES, NATURE), (LOOKS, PLACES), (LOOKS, CITIES)])
        return f"რა {self.one(state)}ა {self.one(thing)}!"

    def listed(self) -> str:
        words = self.one([FOODS, THINGS, PLANTS, ANIMALS])
        some = [self.one(words) for _ in range(self.random.randint(3, 4))]
        start = self.one(
            ["კალათაში დევს", "ბაზარში იყიდება", "სიაში წერია", "ნახატზე ჩანს", "ბავშვმა დაასახელა", "ჯერ დავთვალე"]
        )
        return f"{start} {', '.join(some[:-1])} და {some[-1]}."

    def double(self) -> str:
        link = self.one([" და", ", მაგრამ", ", თუმცა", ", რადგან", ", ამიტომ", ", ხოლო", ", მერე კი", ", თითქოს"])
        past = self.random.random() < 0.6
        when = self.maybe(0.5, lambda: self.one(THEN if past else NOW))
        return f"{joined(when, self.clause(past))}{link} {self.clause(past)}."

    def framed(self) -> str:
        start = self.one(["როცა", "თუ", "სანამ"])
        past = start != "თუ"
        return f"{start} {self.clause(past)}, {self.clause(past)}."

    def told(self) -> str:
        start = self.one(["ამბობენ", "მითხრეს", "ყველამ იცის", "მჯერა", "წერილში ეწერა", "დარწმუნებული ვარ", "მახსოვს"])
        return f"{start}, რომ {self.timed(0.5)}{self.maybe(0.5, lambda: ' და ' + self.clause(True))}."

    def sentence(self, long: bool) -> str:
        short = [self.plain] * 6 + [self.asked] * 2 + [self.wondered, self.exclaimed, self.listed]
        return self.random.choice([self.double, self.framed, self.told] if long else short)()


def make(count: int, long_share: float, seed: int) -> list[str]:
    """`count` different sentences, of which this share has LONG characters or more."""
    maker, found = Maker(seed), dict[str, None]()
    wanted = {True: round(count * long_share), False: count - round(count * long_share)}
    while any(wanted.values()):
        sentence = maker.sentence(long=maker.random.random() < wanted[True] / sum(wanted.values()))
        if len(sentence.split()) < 3 or len(sentence) > LONGEST or sentence in found:
            continue
        if wanted[len(sentence) >= LONG]:
            found[sentence] = None
            wanted[len(sentence) >= LONG] -= 1
    return list(found)


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args(argv)
    written = FILE.read_text("utf-8").splitlines()[:WRITTEN]
    write_text(FILE, "\n".join([*written, *make(MADE, LONG_SHARE, seed=1)]) + "\n")
    print(f"{len(written)} + {MADE} sentences in {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
