"""A separate program, never imported by the package: turns requests into speech.

It loads the espeak-ng library (GPL-3.0) that the wheel `espeakng-loader` bundles. Only this process touches it, and
the package talks to it through pipes, as it would to the `espeak-ng` command.

Request: one JSON object a line, {"text", "voice", "rate", "pitch"}. Answer: a JSON line {"rate", "bytes"} followed by
that many bytes of 16-bit mono samples.
"""

import ctypes
import json
import sys

import espeakng_loader

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARS_UTF8 = 1
RATE, PITCH = 1, 3


def main() -> None:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    sample_rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    chunks: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)  # type: ignore[untyped-decorator]
    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    for line in sys.stdin:
        request = json.loads(line)
        chunks.clear()
        status = library.espeak_SetVoiceByName(request["voice"].encode())
        library.espeak_SetParameter(RATE, request["rate"], 0)
        library.espeak_SetParameter(PITCH, request["pitch"], 0)
        text = request["text"].encode() + b"\0"
        if status == 0:
            library.espeak_Synth(text, len(text), 0, 0, 0, CHARS_UTF8, None, None)
            library.espeak_Synchronize()
        sound = b"".join(chunks)
        sys.stdout.buffer.write(json.dumps({"rate": sample_rate, "bytes": len(sound)}).encode() + b"\n" + sound)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
