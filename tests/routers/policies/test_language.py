"""The language of a prompt: right where it is told, silent where it cannot be."""

import pytest

from routers.policies.language import detect
from routers.policies.language_words import LETTERS, SCRIPTS, WORDS

SENTENCES = {
    "en": "Could you tell me which of these two cars uses less fuel?",
    "de": "Kannst du mir sagen, welches dieser beiden Autos weniger Benzin braucht?",
    "fr": "Peux-tu me dire laquelle de ces deux voitures consomme le moins d'essence ?",
    "es": "¿Me puedes decir cuál de estos dos coches gasta menos gasolina?",
    "pt": "Você pode me dizer qual desses dois carros gasta menos gasolina?",
    "it": "Puoi dirmi quale di queste due macchine consuma meno benzina?",
    "ca": "Em pots dir quin d'aquests dos cotxes gasta menys benzina? Gràcies, és per a la meva germana.",
    "ro": "Îmi poți spune care dintre aceste două mașini consumă mai puțină benzină?",
    "nl": "Kun je mij vertellen welke van deze twee auto's minder benzine gebruikt?",
    "sv": "Kan du säga mig vilken av de här två bilarna som drar mindre bensin?",
    "fi": "Voitko kertoa minulle, kumpi näistä autoista kuluttaa vähemmän ja miksi se on niin?",
    "et": "Kas sa võid mulle öelda, kumb neist kahest autost kulutab vähem ja miks see nii on?",
    "hu": "Meg tudod mondani, hogy a két autó közül melyik fogyaszt kevesebbet?",
    "pl": "Czy możesz mi powiedzieć, który z tych dwóch samochodów zużywa mniej paliwa?",
    "cs": "Můžeš mi říct, které z těchto dvou aut má menší spotřebu a proč?",
    "sk": "Môžeš mi povedať, ktoré z týchto dvoch áut má menšiu spotrebu a prečo? Ďakujem veľmi pekne.",
    "lt": "Ar gali man pasakyti, kuris iš šių dviejų automobilių naudoja mažiau degalų?",
    "lv": "Vai vari man pateikt, kura no šīm divām mašīnām patērē mazāk degvielas?",
    "tr": "Bu iki arabadan hangisi daha az benzin yakıyor, bana söyler misin?",
    "id": "Bisakah kamu memberi tahu saya mobil mana yang lebih hemat bensin dari kedua mobil ini?",
    "vi": "Bạn có thể cho tôi biết chiếc xe nào trong hai chiếc này ít tốn xăng hơn không?",
    "ru": "Можешь сказать мне, какая из этих двух машин расходует меньше бензина?",
    "uk": "Можеш сказати мені, яка з цих двох машин витрачає менше бензину?",
    "bg": "Можеш ли да ми кажеш коя от тези две коли харчи по-малко бензин?",
    "sr": "Можеш ли да ми кажеш који од ова два аутомобила троши мање горива?",
    "el": "Μπορείς να μου πεις ποιο από τα δύο αυτοκίνητα καίει λιγότερο;",
    "he": "אתה יכול להגיד לי איזו משתי המכוניות האלה צורכת פחות דלק?",
    "ar": "هل يمكن أن تخبرني أي من هاتين السيارتين تستهلك وقودا أقل؟",
    "fa": "آیا می توانید به من بگویید که کدام یک از این دو ماشین بنزین کمتری مصرف می کند؟",
    "ur": "کیا آپ مجھے بتا سکتے ہیں کہ ان دو گاڑیوں میں سے کون سی کم پٹرول استعمال کرتی ہے؟",
    "hi": "क्या तुम मुझे बता सकते हो कि इन दो गाड़ियों में से कौन सी कम पेट्रोल खाती है?",
    "bn": "এই দুটি গাড়ির মধ্যে কোনটি কম তেল খায় বলতে পারো?",
    "ta": "இந்த இரண்டு கார்களில் எது குறைவான பெட்ரோல் பயன்படுத்துகிறது?",
    "th": "รถสองคันนี้คันไหนกินน้ำมันน้อยกว่ากัน",
    "ka": "შეგიძლია მითხრა, ამ ორი მანქანიდან რომელი ხარჯავს ნაკლებ საწვავს?",
    "hy": "Կարո՞ղ ես ասել, թե այս երկու մեքենաներից որն է քիչ վառելիք ծախսում:",
    "am": "ከእነዚህ ሁለት መኪናዎች የትኛው ያነሰ ነዳጅ ይጠቀማል?",
    "ko": "이 두 자동차 중에서 어느 것이 기름을 덜 먹는지 알려 줄래?",
    "ja": "この二台の車のうち、どちらの燃費が良いか教えてください。",
    "zh": "你能告诉我这两辆车哪一辆更省油吗？",
}
RELATIVES = {
    "da": "Kan du fortælle mig, hvilken af de to biler der bruger mindst benzin?",
    "no": "Kan du fortelle meg hvilken av de to bilene som bruker minst bensin?",
    "hr": "Možeš li mi reći koji od ova dva automobila troši manje goriva i zašto?",
    "sl": "Mi lahko poveš, kateri od teh dveh avtomobilov porabi manj goriva in zakaj?",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_enough(language: str) -> None:
    assert detect(SENTENCES[language]) == (language,)


@pytest.mark.parametrize("language", RELATIVES)
def test_of_near_relatives_both_may_be_named(language: str) -> None:
    assert language in detect(RELATIVES[language])
    assert "en" not in detect(RELATIVES[language])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "2 + 2 = ?",
        "def f(x): return x",
        "df.groupby('a').mean()",
        "x² + y² = r²",
        "Kubernetes",
        "!!!",
        "la la la",
    ],
)
def test_what_is_no_language_is_none(text: str) -> None:
    assert detect(text) == ()


def test_code_and_addresses_do_not_count() -> None:
    code = "```python\nfor the_word in this.and_that:  # we have to do it for all of them\n    print(the_word)\n```"
    assert detect(f"Was macht diese Funktion?\n{code}") == ("de",)
    assert detect("Was ist `is not None and what is that` und warum?") == ("de",)
    assert detect(code) == ()


def test_names_in_latin_letters_do_not_hide_a_script() -> None:
    assert detect("Pythonでリストを並べ替える方法を教えてください") == ("ja",)
    assert detect("What does 你好 mean in the dialect of Beijing?") == ("en",)


def test_a_long_text_is_read_from_its_beginning_only() -> None:
    assert detect(SENTENCES["fr"] * 200 + SENTENCES["de"] * 2000) == ("fr",)


def test_the_tables_name_languages_by_their_codes() -> None:
    assert all(len(code) == 2 for code in (*WORDS, *SCRIPTS, *LETTERS))
    assert set(LETTERS) <= set(WORDS)
    assert all(words == words.casefold() for words in WORDS.values())
