"""Explanations over HTTP, in chat completions, and on the page Why in a real browser."""

import base64
import contextlib
import copy
import shutil
import threading
import time
from types import SimpleNamespace

import httpx2 as httpx
import pytest
from conftest import serving, small_model

from plait.contract import Message, Part
from plait.serve.explainer import WAITING, Explainer

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def question(*parts):
    return [{"role": "user", "content": list(parts)}]


def picture(png):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}


def words(text):
    return {"type": "text", "text": text}


def test_an_answer_comes_with_what_it_hangs_on(http, png):
    body = {"messages": question(picture(png), words("what is this?")), "max_tokens": 4}
    told = http.post("/v1/explanations", json=body)
    assert told.status_code == 200, told.text
    [found] = told.json()["explanations"]
    assert found["method"] == "shapley"
    assert [part["type"] for part in found["messages"][0]["parts"]] == ["image", "text"]
    assert "<img" in found["messages"][0]["parts"][0]["html"]
    assert len(found["units"]) == len(found["maps"][0]["values"])
    assert found["maps"][0]["sentence"]


def test_a_given_answer_is_explained_token_by_token(http):
    body = {
        "messages": question(words("what is this?")),
        "answer": "yes zwei",
        "explain": {"of": "token", "methods": ["masking", "shapley"]},
    }
    found = http.post("/v1/explanations", json=body).json()["explanations"]
    assert [one["method"] for one in found] == ["masking", "shapley"]
    assert "".join(one["label"] for one in found[0]["maps"]) == "yes zwei"


def test_layers_are_read_over_http():
    asked = {"messages": question(words("what is this?")), "answer": "yes zwei", "explain": {"of": "layers"}}
    model = small_model()
    model.inside = copy.deepcopy(model.network)
    with serving({"tiny": model}) as (place, _), httpx.Client(base_url=place, timeout=60) as client:
        response = client.post("/v1/explanations", json=asked).json()
        assert response["object"] == "lens"
        assert "".join(token["label"] for token in response["lens"]["tokens"]) == "yes zwei"
        refused = client.post("/v1/explanations", json=asked | {"explain": {"of": "layers", "methods": ["masking"]}})
        assert refused.status_code == 400
        assert "no method weighs what layers make" in refused.text
        chat = {"messages": question(words("what is this?")), "max_tokens": 4, "explain": {"of": "layers"}}
        [choice] = client.post("/v1/chat/completions", json=chat).json()["choices"]
        [lens] = choice["explanations"]
        assert lens["layers"] == response["lens"]["layers"]


def test_layers_come_as_a_table_for_pages(png):
    model = small_model()
    model.inside = copy.deepcopy(model.network)
    with serving({"tiny": model}) as (place, _), httpx.Client(base_url=place, timeout=60) as client:
        asked = {"messages": question(words("what is this?")), "answer": "yes zwei", "explain": {"of": "layers"}}
        response = client.post("/v1/explanations", json=asked | {"view": True}).json()
        [table] = response["view"]["tables"]
        assert "".join(text for text, _ in table["heads"]) == "yes zwei"
        assert table["layers"] == [2, 1, 0]
        assert table["cells"][0][0]["text"] == response["lens"]["tokens"][0]["reading"]["best"][2][0]["text"]
        drawn = {"messages": question(picture(png)), "modalities": ["image"], "explain": {"of": "layers"}, "view": True}
        response = client.post("/v1/explanations", json=drawn).json()
        assert "<img" in response["view"]["tables"][-1]["cells"][0][0]["html"]
        refused = client.post("/v1/explanations", json=asked | {"explain": {}, "view": True})
        assert refused.status_code == 400
        assert "expected 'layers'" in refused.text


def test_an_answer_is_patched_into_another_question(png):
    model = small_model()
    model.inside = copy.deepcopy(model.network)
    with serving({"tiny": model}) as (place, _), httpx.Client(base_url=place, timeout=60) as client:
        asked = {
            "messages": question(picture(png), words("say zwei")),
            "answer": "zwei",
            "explain": {"methods": ["masking"]},
        }
        name = client.post("/v1/explanations", json=asked).json()["id"]
        told = client.post(f"/v1/explanations/{name}/patched", json={"counterfactual": "say yes", "view": True})
        assert told.status_code == 200, told.text
        patching = told.json()["patching"]
        assert [part.get("text") for part in patching["counterfactual"][0]["parts"]] == [None, "say yes"]
        assert patching["score"] != patching["counterfactual_score"]
        expected = model.patch_reply(
            (model.question([Part("image", png), "say zwei"]),),
            (model.question([Part("image", png), "say yes"]),),
            Message("assistant", (Part("text", "zwei"),)),
        )
        assert patching["labels"] == list(expected.labels)
        assert patching["score"] == pytest.approx(expected.score, abs=1e-4)
        assert len(told.json()["view"]["tables"]) == expected.is_telling
        for wrong, why in [
            ("say it in other words", "expected as many"),
            ("", "says nothing"),
            ([picture(png), picture(png)], "2 parts of image"),
            ([words("say"), words("yes")], "2 parts of text"),
            ("yes " * 2000, "tokens of a question and an answer"),
        ]:
            refused = client.post(f"/v1/explanations/{name}/patched", json={"counterfactual": wrong})
            assert refused.status_code == 400, refused.text
            assert why in refused.text
        surrogate = client.post(
            f"/v1/explanations/{name}/patched",
            content=rb'{"counterfactual": "\ud800"}',
            headers={"content-type": "application/json"},
        )
        assert surrogate.status_code == 400
        assert "surrogate" in surrogate.text
        assert client.post("/v1/explanations/expl_0/patched", json={"counterfactual": "say yes"}).status_code == 404


def test_the_model_answers_again_without_what_is_hidden(http, png):
    asked = {"messages": question(picture(png), words("what is this?")), "max_tokens": 4, "temperature": 0}
    told = http.post("/v1/explanations", json=asked).json()
    units = told["explanations"][0]["units"]
    of_words = [number for number, unit in enumerate(units) if unit["kind"] == "text"]
    again = http.post(f"/v1/explanations/{told['id']}/without", json={"hidden": of_words}).json()
    assert len(again["scores"]) == 2
    assert again["scores"][0] != again["scores"][1]
    assert again["message"]["role"] == "assistant"
    same = http.post(f"/v1/explanations/{told['id']}/without", json={"hidden": []}).json()
    assert same["scores"][0] == pytest.approx(same["scores"][1])
    answer = "".join(part.get("text", "") for part in told["explanations"][0]["messages"][-1]["parts"])
    assert same["message"]["content"] == answer, "with nothing hidden it is the same answer"


def test_chat_completions_explain_where_they_are_asked_to(http, client):
    body = {"model": "tiny", "messages": question(words("what is this?")), "max_tokens": 4}
    told = http.post("/v1/chat/completions", json=body | {"explain": True, "n": 2, "temperature": 1.0}).json()
    assert len(told["choices"]) == 2
    for choice in told["choices"]:
        [found] = choice["explanations"]
        assert found["messages"][-1]["parts"][0]["text"] == choice["message"]["content"]
    plain = http.post("/v1/chat/completions", json=body).json()
    assert "explanations" not in plain["choices"][0]
    answer = client.chat.completions.create(**body, extra_body={"explain": {"of": "token", "methods": ["shapley"]}})
    assert answer.choices[0].explanations[0]["method"] == "shapley"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"explain": {"methods": ["magic"]}}, "'magic'; expected one of shapley"),
        ({"explain": {"of": "word"}}, "of='word'"),
        ({"explain": {"methods": ["relevance"]}}, "not loaded from a folder"),
        ({"explain": {"of": "token:99"}, "answer": "yes"}, "expected a token from 0"),
        ({"messages": []}, "at least one"),
        ({"answer": ""}, "answer"),
        ({"explain": {"methods": ["masking"] * 9}}, "methods"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_cannot_be_explained_is_said(http, change, what):
    told = http.post("/v1/explanations", json={"messages": question(words("what?")), "max_tokens": 4} | change)
    assert told.status_code == 400
    assert what in told.json()["error"]["message"]


def test_a_stream_is_not_explained(http):
    body = {"messages": question(words("what?")), "stream": True, "explain": True}
    told = http.post("/v1/chat/completions", json=body)
    assert told.status_code == 400
    assert "explain" in told.json()["error"]["message"]


def test_units_and_explanations_that_are_not_there_are_refused(http):
    asked = {"messages": question(words("what?")), "answer": "yes"}
    name = http.post("/v1/explanations", json=asked).json()["id"]
    wrong = http.post(f"/v1/explanations/{name}/without", json={"hidden": [99]})
    assert wrong.status_code == 400
    assert "unit 99; expected numbers from 0 to" in wrong.json()["error"]["message"]
    target = http.post(f"/v1/explanations/{name}/without", json={"hidden": [0], "target": 5})
    assert target.status_code == 400
    gone = http.post("/v1/explanations/expl_none/without", json={"hidden": []})
    assert gone.status_code == 404


def test_too_much_is_refused_before_it_begins(http):
    long = http.post("/v1/explanations", json={"messages": question(words("what?")), "answer": "yes zwei " * 400})
    assert long.status_code == 400
    assert "expected at most 512" in long.json()["error"]["message"]
    many = {
        "messages": question(words("what " * 100)),
        "answer": "yes " * 60,
        "explain": {"of": "token", "methods": ["shapley"]},
    }
    refused = http.post("/v1/explanations", json=many)
    assert refused.status_code == 400
    assert "expected at most 1,000,000" in refused.json()["error"]["message"]


def test_with_every_word_hidden_there_is_a_score_and_no_answer(http):
    told = http.post("/v1/explanations", json={"messages": question(words("what is this?")), "answer": "yes"}).json()
    everything = list(range(len(told["explanations"][0]["units"])))
    again = http.post(f"/v1/explanations/{told['id']}/without", json={"hidden": everything})
    assert again.status_code == 200
    assert again.json()["message"] is None


def test_an_answer_that_cannot_be_explained_stays_an_answer(http):
    body = {"messages": question(words("what?")), "max_tokens": 2, "explain": {"of": "token:400"}}
    told = http.post("/v1/chat/completions", json=body)
    assert told.status_code == 200
    [choice] = told.json()["choices"]
    assert "expected a token from 0" in choice["explanations"][0]["error"]["message"]


def test_what_one_caller_had_explained_another_may_not_ask_on(tmp_path):
    from plait.serve.guard import Access
    from plait.serve.keys import hashed

    keys = {hashed("one"): "one", hashed("two"): "two"}
    with serving(access=Access(keys=keys)) as (url, _), httpx.Client(base_url=url, timeout=60) as client:

        def post(path, body, key):
            return client.post(path, json=body, headers={"Authorization": f"Bearer {key}"})

        name = post("/v1/explanations", {"messages": question(words("what?")), "answer": "yes"}, "one").json()["id"]
        assert post(f"/v1/explanations/{name}/without", {"hidden": [0]}, "one").status_code == 200
        assert post(f"/v1/explanations/{name}/without", {"hidden": [0]}, "two").status_code == 404


def test_large_explanations_are_let_go_before_many_small_ones(monkeypatch):
    from plait.serve.openai import explanations

    def entry(owner, size):
        return SimpleNamespace(owner=owner, size=size)

    recent = explanations.Recent()
    names = [recent.keep(entry("ann", explanations.LARGEST_EACH // 2)) for _ in range(3)]
    assert list(recent.entries) == names[1:]
    huge = recent.keep(entry("ann", 10 * explanations.LARGEST_EACH))
    assert list(recent.entries) == [huge], "the last one is there in any case"
    small = [recent.keep(entry("ben", 1)) for _ in range(explanations.KEPT_EACH + 1)]
    assert list(recent.entries) == small[1:], "all callers share the whole"


def test_one_at_a_time_and_too_many_are_refused():
    """Of one model; what nobody waits for any more is not begun."""
    import asyncio

    from plait.serve.errors import OverloadedError

    running, most, begun = [0], [0], []
    release = threading.Event()

    def work(number):
        begun.append(number)
        running[0] += 1
        most[0] = max(most[0], running[0])
        release.wait(10)
        running[0] -= 1
        return number

    async def ask():
        explainer = Explainer()
        tasks = [asyncio.ensure_future(explainer.run("tiny", lambda check, n=n: work(n))) for n in range(WAITING)]
        await asyncio.sleep(0.1)
        with pytest.raises(OverloadedError, match=f"expected at most {WAITING}"):
            await explainer.run("tiny", lambda check: work(99))
        assert await explainer.run("other", lambda check: "another model's") == "another model's"
        tasks[1].cancel()
        await asyncio.sleep(0.05)
        assert explainer.waiting["tiny"] == WAITING - 1, "who has gone takes no place"
        release.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        assert [results[n] for n in (0, 2, 3)] == [0, 2, 3]
        assert explainer.waiting["tiny"] == 0

    asyncio.run(ask())
    assert most[0] == 1
    assert begun == [0, 2, 3]


def test_the_engine_answers_while_something_is_explained(place, monkeypatch):
    """An explanation does not hold up answers."""
    from plait.api import Model

    explained = threading.Event()
    usual = Model.explain_reply

    def slow(self, *arguments, **options):
        explained.wait(30)
        return usual(self, *arguments, **options)

    monkeypatch.setattr(Model, "explain_reply", slow)
    with httpx.Client(base_url=place, timeout=60) as client:
        body = {"messages": question(words("what?")), "answer": "yes"}
        told = []
        thread = threading.Thread(target=lambda: told.append(client.post("/v1/explanations", json=body).status_code))
        thread.start()
        time.sleep(0.3)
        with httpx.Client(base_url=place, timeout=20) as other:
            answer = other.post("/v1/chat/completions", json={"messages": question(words("what?")), "max_tokens": 2})
        assert answer.status_code == 200
        assert not told
        explained.set()
        thread.join(30)
        assert told == [200]


@contextlib.contextmanager
def why():
    """The page Why in a browser, while the block runs."""
    from test_pages import Page

    model = small_model()
    model.inside = copy.deepcopy(model.network)
    with serving({"tiny": model}) as (url, _):
        page = Page(url)
        try:
            page.open("/#why")
            yield page
        finally:
            page.driver.quit()


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")
def test_the_page_why(png, tmp_path):
    """A picture and words are asked about, heat is shown, a piece is hidden by a click, and the model answers again."""
    from selenium.webdriver.support.ui import Select

    path = tmp_path / "picture.png"
    path.write_bytes(png)
    with why() as page:
        page.one("h2", "What an answer hangs on")
        assert Select(page.one('select[aria-label="Answer in"]')).first_selected_option.get_attribute("value") == "text"
        assert page.all_text("main .row label")[1].startswith("Answer in")
        Select(page.one('select[aria-label="Answer in"]')).select_by_value("audio")
        Select(page.one('select[aria-label="What is explained"]')).select_by_value("token")
        page.driver.find_element("css selector", "input[type=file]").send_keys(str(path))
        page.one(".attached img")
        page.one("textarea").send_keys("say zwei")
        page.one("button.primary", "Ask").click()
        page.one(".heat-verdict")
        marks = page.all("[data-unit]")
        assert len(marks) >= 5
        assert page.all(".heat-frame .heat-cover")
        marks[0].click()
        page.one(".heat-without [data-scores]")
        focus = "return [document.activeElement.dataset.unit, document.querySelector('.heat-without h3').getBoundingClientRect().bottom <= innerHeight]"
        assert page.driver.execute_script(focus) == ["0", True]
        before, after = page.one("[data-scores]").get_attribute("data-scores").split()
        assert float(before) != float(after)
        assert page.all(".heat-unit.heat-hidden")
        assert not [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
        page.open("/#why")
        Select(page.one("#language")).select_by_value("zh")
        page.one("h2", "回答取决于什么")
        Select(page.one('select[aria-label="回答形式"]')).select_by_value("audio")
        page.one("textarea").send_keys("say zwei")
        page.one("button.primary", "提问并解释").click()
        page.one(".heat-verdict p", "忠实")
        page.one("summary", "它在哪一层？").click()
        page.one('textarea[aria-label="另一个问题"]').send_keys("say yes")
        page.one("button.primary", "替换并比较").click()
        page.one("details h3", "答案在哪里")
        page.one("details th", "其余全部")
        Select(page.one('select[aria-label="解释什么"]')).select_by_value("layers")
        page.one("button.primary", "提问并解释").click()
        page.one("h3", "各层如何理解这个回答")
        page.one("h3 + p", "均方根")


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")
def test_layers_on_the_page_why():
    """An answer is patched into another question; layers are shown of words, and of a picture."""
    from selenium.webdriver.support.ui import Select

    with why() as page:
        Select(page.one('select[aria-label="Answer in"]')).select_by_value("image")
        page.one("textarea").send_keys("say zwei")
        page.one("button.primary", "Ask").click()
        page.one(".heat-verdict")
        page.one("summary", "Where in the layers is it?").click()
        other = page.one('textarea[aria-label="The other question"]')
        other.send_keys("say zwei")
        page.one("button.primary", "Patch it").click()
        page.one("details h3", "Where the answer is")
        assert "nothing to patch" in page.one("details h3 + p").text, "the same question"
        other.clear()
        other.send_keys("say yes")
        page.one("button.primary", "Patch it").click()
        assert len(page.one("details .lens tbody").find_elements("css selector", "tr")) == 3
        page.open("/#why")
        Select(page.one('select[aria-label="What is explained"]')).select_by_value("layers")
        page.one("textarea").send_keys("what is this?")
        page.one("button.primary", "Ask").click()
        assert len(page.one(".lens tbody").find_elements("css selector", "tr")) == 3
        Select(page.one('select[aria-label="Answer in"]')).select_by_value("image")
        page.one("button.primary", "Ask").click()
        assert page.one(".lens .shown img").get_attribute("src").startswith("data:image/")
        assert not [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
