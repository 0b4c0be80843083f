"""Voices are enrolled with a consent, recognised, compared and forgotten."""

import base64
import io

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from conftest import serving

from plait.errors import MissingError
from plait.modalities.audio import voices

RATE = 16_000
AGREES = "I, Anna, agree that this server recognises my voice."


def pitch(part):
    """The test's ear: whoever hums at one pitch is one person."""
    samples = part.value[0]
    if not np.abs(samples).max() > 0:
        return silent(part)
    spectrum = np.abs(np.fft.rfft(samples[: RATE // 2], RATE // 2))[:256]
    spectrum[-1] = 4 * len(samples) / RATE  # two recordings are never quite alike
    spectrum[:-1] *= 20 / np.linalg.norm(spectrum[:-1])
    return (spectrum / np.linalg.norm(spectrum)).astype(np.float32)


silent = voices.direction  # as it is, it refuses silence before it needs its weights


def hum(hertz, seconds=1.0, format="WAV"):
    """A data: URL of somebody's voice."""
    buffer = io.BytesIO()
    time = np.arange(int(seconds * RATE)) / RATE
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * hertz * time), RATE, format=format)
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()


def enrolment(name, hertz, consent=None):
    return {
        "name": name,
        "audio": hum(hertz),
        "consent": {"statement": AGREES, "recording": hum(consent or hertz, 1.5)},
    }


@pytest.fixture(autouse=True)
def ear(monkeypatch):
    monkeypatch.setattr(voices, "direction", pitch)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("speakers") / "c.sqlite"
    with serving(conversations=path) as (url, _), httpx.Client(base_url=url, timeout=60) as made:
        yield made, path


@pytest.fixture
def http(place):
    yield place[0]
    for speaker in place[0].get("/v1/speakers").json()["data"]:
        place[0].delete(f"/v1/speakers/{speaker['id']}")


def test_a_voice_is_enrolled_recognised_and_forgotten(http, place):
    anna = http.post("/v1/speakers", json=enrolment("Anna", 100)).json()
    ben = http.post("/v1/speakers", json=enrolment("Ben", 300)).json()
    assert (anna["object"], anna["name"], anna["consent"]) == ("speaker", "Anna", {"statement": AGREES})
    assert [speaker["id"] for speaker in http.get("/v1/speakers").json()["data"]] == [anna["id"], ben["id"]]
    heard = http.post("/v1/speakers/identify", json={"audio": hum(300, 2.0)}).json()
    assert heard["speaker"]["id"] == ben["id"]
    assert [match["name"] for match in heard["matches"]] == ["Ben", "Anna"]
    assert heard["measured"]["metric"].startswith("equal error rate")
    assert http.post("/v1/speakers/identify", json={"audio": hum(200)}).json()["speaker"] is None
    kept = http.get(f"/v1/speakers/{anna['id']}").json()["consent"]["recording"]
    assert hum(100, 1.5).endswith(kept)
    assert http.delete(f"/v1/speakers/{ben['id']}").json() == {"id": ben["id"], "object": "speaker", "deleted": True}
    assert http.delete(f"/v1/speakers/{ben['id']}").status_code == 404
    assert http.get(f"/v1/speakers/{ben['id']}").status_code == 404
    assert http.post("/v1/speakers/identify", json={"audio": hum(300)}).json()["speaker"] is None


def test_what_is_forgotten_is_nowhere_in_the_file(http, place):
    name = "a name that occurs nowhere else"
    speaker = http.post("/v1/speakers", json=enrolment(name, 120)).json()
    http.delete(f"/v1/speakers/{speaker['id']}")
    files = [path.read_bytes() for path in place[1].parent.iterdir() if path.is_file()]
    assert files
    assert not any(name.encode() in data for data in files)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (enrolment("Anna", 100, consent=200), "consent.recording"),
        (enrolment("Anna", 100) | {"audio": hum(100, 1.5)}, "consent.recording"),
        (enrolment("Anna", 100) | {"audio": "https://example.com/a.wav"}, "audio"),
        (enrolment("Anna", 100) | {"audio": "data:audio/wav;base64,AAAA"}, "audio"),
        ({"name": "Anna", "audio": hum(100)}, "consent"),
        (
            {"name": "Anna", "audio": hum(100), "consent": {"statement": "yes", "recording": hum(100)}},
            "consent.statement",
        ),
    ],
)
def test_without_consent_or_sound_nothing_is_enrolled(http, body, param):
    answer = http.post("/v1/speakers", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert http.get("/v1/speakers").json()["data"] == []


def test_two_recordings_are_compared(http):
    same = http.post("/v1/speakers/compare", json={"audio": [hum(100), hum(100, 2.0)]}).json()
    other = http.post("/v1/speakers/compare", json={"audio": [hum(100), hum(250)]}).json()
    assert (same["same"], other["same"]) == (True, False)
    assert same["likeness"] > same["threshold"] > other["likeness"]
    silence = http.post("/v1/speakers/compare", json={"audio": [hum(0), hum(100)]})
    assert (silence.status_code, silence.json()["error"]["param"]) == (400, "audio[0]")
    assert "expected at least" in silence.json()["error"]["message"]


def test_without_a_file_voices_are_compared_alone(monkeypatch):
    with serving() as (url, _), httpx.Client(base_url=url, timeout=60) as http:
        assert http.post("/v1/speakers/compare", json={"audio": [hum(100), hum(100)]}).json()["same"]
        assert http.post("/v1/speakers", json=enrolment("Anna", 100)).status_code in (404, 405)

        def missing(part):
            raise MissingError("pip is not installed")

        monkeypatch.setattr(voices, "direction", missing)
        answer = http.post("/v1/speakers/compare", json={"audio": [hum(100), hum(100)]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_keys_do_not_see_each_others_voices(tmp_path):
    from plait.serve.guard import Access
    from plait.serve.keys import hashed

    access = Access({hashed("one"): "anna", hashed("two"): "ben"})
    with (
        serving(access=access, conversations=tmp_path / "c.sqlite") as (url, _),
        client(url, "one") as one,
        client(url, "two") as two,
    ):
        id = one.post("/v1/speakers", json=enrolment("Anna", 100)).json()["id"]
        assert two.get("/v1/speakers").json()["data"] == []
        assert two.post("/v1/speakers/identify", json={"audio": hum(100)}).json()["matches"] == []
        assert two.delete(f"/v1/speakers/{id}").status_code == 404
        assert one.get(f"/v1/speakers/{id}").status_code == 200


def client(url, key):
    return httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {key}"})
