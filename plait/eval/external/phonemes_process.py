"""A separate program, never imported by the package: turns text into phonemes (IPA).

It loads the espeak-ng library (GPL-3.0) that the wheel `espeakng-loader` bundles. Only this process touches it, and
the package talks to it through pipes, as it would to the `espeak-ng` command.

Input: one JSON object {"text", "voice"}. Output: a JSON list with [phonemes, mark] of each clause, where `mark` is the one of
MARKS that closes it in the text, or a full stop. An unknown voice exits with status 2.
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
    """(phonemes, mark) of each clause. espeak-ng advances a pointer past each clause, which gives the clause's end."""
    buffer = ctypes.create_string_buffer(text.encode())
    begin = ctypes.addressof(buffer)
    pointer, start, spoken = ctypes.c_void_p(begin), 0, []
    while pointer.value is not None:
        phonemes = ctypes.string_at(library.espeak_TextToPhonemes(ctypes.byref(pointer), CHARS_UTF8, IPA)).decode()
        end = len(buffer.value) if pointer.value is None else pointer.value - begin
        marks = re.findall(f"[{MARKS}]", buffer.value[start:end].decode(errors="ignore")[-AHEAD:])
        spoken.append((phonemes, marks[-1] if marks else "."))
        start = end
    return spoken


def main() -> None:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_TextToPhonemes.restype = ctypes.c_void_p
    library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    request = json.load(sys.stdin)
    if library.espeak_SetVoiceByName(request["voice"].encode()):
        sys.exit(2)
    json.dump(clauses(library, request["text"]), sys.stdout)


if __name__ == "__main__":
    main()
