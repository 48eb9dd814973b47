"""Passages of two manuals, in English and in Hindi, with questions whose answer stands in one of them."""

from __future__ import annotations

from aasut.types import Chunk, Span

ENGLISH = [
    ("Starting", "To start the pump, open the inlet valve and press the green button on the panel for two seconds."),
    ("Stopping", "To stop the pump, press the red button. Shut the outlet valve before the motor comes to rest."),
    ("Oil", "Change the oil of the gearbox every 500 hours. Use 1.2 litres of mineral oil of grade 68."),
    ("Alarms", "Alarm E41 means that the bearing is hotter than 90 degrees. Let it cool down, and check the grease."),
    ("Alarms", "Alarm E17 means that there is no water at the inlet. Open the valve, or clean the strainer."),
    ("Storage", "Before storage in winter, drain the housing, since water that freezes breaks it."),
    ("Warranty", "The warranty lasts for three years. It ends where seals of other makers are built in."),
    ("Noise", "A rattling noise comes from cavitation: the suction pipe is too long, too narrow or clogged."),
]
ENGLISH_QUESTIONS = [
    ("How do I start the pump?", 0),
    ("When must the gearbox get new oil?", 2),
    ("What does alarm E17 mean?", 4),
    ("what is E41", 3),
    ("Does water that freezes break the housing?", 5),
    ("How long does the warranty last: three years?", 6),
    ("What is it that makes a RATTLING noise?", 7),
]
HINDI = [
    ("चालू करना", "पंप चालू करने के लिए इनलेट वाल्व खोलें और पैनल का हरा बटन दो सेकंड तक दबाएँ।"),
    ("बंद करना", "पंप बंद करने के लिए लाल बटन दबाएँ। मोटर के रुकने से पहले आउटलेट वाल्व बंद करें।"),
    ("तेल", "गियरबॉक्स का तेल हर ५०० घंटे में बदलें। १.२ लीटर खनिज तेल भरें।"),
    ("चेतावनी", "चेतावनी E41 का अर्थ है कि बेयरिंग ९० डिग्री से अधिक गरम है। उसे ठंडा होने दें।"),
    ("चेतावनी", "चेतावनी E17 का अर्थ है कि इनलेट में पानी नहीं है। छलनी साफ़ करें।"),
    ("भंडारण", "सर्दियों में रखने से पहले खोल से पानी निकाल दें, क्योंकि जमता हुआ पानी उसे तोड़ देता है।"),
    ("वारंटी", "वारंटी तीन साल की है। दूसरी कंपनी की सील लगाने पर वह ख़त्म हो जाती है।"),
]
HINDI_QUESTIONS = [
    ("पंप कैसे चालू करें?", 0),
    ("गियरबॉक्स का तेल कब बदलें?", 2),
    ("500 घंटे में क्या बदलना है", 2),
    ("E17 चेतावनी का क्या अर्थ है?", 4),
    ("जमता हुआ पानी क्या तोड़ता है", 5),
    ("वारंटी कितने साल की है?", 6),
    ("छलनी कब साफ\u093c करें", 4),
]


def chunks(passages: list[tuple[str, str]], document: str) -> list[Chunk]:
    """Chunks of one document, a page each."""
    found, start = [], 0
    for number, (heading, text) in enumerate(passages):
        span = Span(document, start, start + len(text), number + 1, ("Manual", heading))
        found.append(Chunk(f"{document}:{number}", text, span))
        start += len(text)
    return found
