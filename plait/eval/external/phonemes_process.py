"""A program of its own, not imported by the package: reads a text, answers with what it sounds like, in IPA.

It loads the espeak-ng library (GPL-3.0) that the wheel `espeakng-loader` bundles. Only this process touches it, and
the package talks to it through pipes, as it would to the `espeak-ng` command.

Given, one JSON object: {"text", "voice"}. Answer, a JSON list: [phonemes, mark] of each clause, `mark` being the one of
MARKS that closes it in the text, or a full stop where none does. An unknown voice ends it with status 2.
"""

import ctypes
import json
import re
import sys

import espeakng_loader

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8 = 1
IPA = 2
MARKS = ".,:;!?"
AHEAD = 4  # characters that espeak-ng may have read behind the mark: a quote, a space, the next word's first letter


def clauses(library: ctypes.CDLL, text: str) -> list[tuple[str, str]]:
    """espeak-ng moves a pointer behind what it has read, and so tells where a clause ends."""
    whole = ctypes.create_string_buffer(text.encode())
    begin = ctypes.addressof(whole)
    pointer, place, made = ctypes.c_void_p(begin), 0, []
    while pointer.value is not None:
        phonemes = ctypes.string_at(library.espeak_TextToPhonemes(ctypes.byref(pointer), CHARS_UTF8, IPA)).decode()
        end = len(whole.value) if pointer.value is None else pointer.value - begin
        marks = re.findall(f"[{MARKS}]", whole.value[place:end].decode(errors="ignore")[-AHEAD:])
        made.append((phonemes, marks[-1] if marks else "."))
        place = end
    return made


def main() -> None:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_void_p
    library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    given = json.load(sys.stdin)
    if library.espeak_SetVoiceByName(given["voice"].encode()):
        sys.exit(2)
    json.dump(clauses(library, given["text"]), sys.stdout)


if __name__ == "__main__":
    main()
