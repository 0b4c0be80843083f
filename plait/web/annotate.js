// Pages for people who label: one item after the other, what they disagree about, and how the work stands.

import { get, send, tell } from "./api.js";
import { el } from "./dom.js";
import { begin, mediumAt, newId, query, session, who } from "./people.js";
import { Places } from "./places.js";
import { t } from "./words.js";

const KEYS = "1234567890";
const main = document.getElementById("main");
const isDigit = (text) => /^\d$/.test(text);
const isTyping = () => ["TEXTAREA", "INPUT", "SELECT"].includes(document.activeElement?.tagName);
const isNowhere = () => [null, document.body, main].includes(document.activeElement);

/** Whether a key is for a link or a button that has the focus. */
const isPressing = ({ key }) => ["Enter", " "].includes(key) && Boolean(document.activeElement?.closest("a, button, select, summary, audio, video"));

/** An element that shows a part, once it is here. */
async function shown(part) {
  if (part.type === "text") return el("p", {}, part.text);
  const medium = await mediumAt(part.url, part.type, { audio: { autoplay: true } });
  medium.classList.add("medium");
  if (part.has_places) medium.dataset.places = "";
  return medium;
}

const bubbles = (messages) => Promise.all(messages.map(async ({ role, parts }) => el("div", { className: `bubble ${role}` }, await Promise.all(parts.map(shown)))));

/** What asks the question of the project about one item. `value` is the answer so far, null where there is none yet. */
class Form {
  constructor(item, elements, answer) {
    Object.assign(this, { item, answer, kind: session.about.question.kind, options: session.about.question.options });
    this.isSwapped = this.kind === "choose" && [...item.id].reduce((sum, letter) => sum + letter.charCodeAt(0), who().person.length) % 2 === 1;
    const start = item.answered ?? item.settled ?? item.guesses[0]?.value ?? null;
    this.element = el("div", { className: "options" });
    if (["label", "rate", "choose"].includes(this.kind)) this.asButtons(item.answered ?? null);
    else if (this.kind === "box") this.asBoxes(elements.find((each) => "places" in each.dataset), Array.isArray(start) ? start : []);
    else this.asText(typeof start === "string" ? start : this.kind === "correct" ? (item.answers[0]?.[0].parts ?? []).map(({ text }) => text ?? "").join(" ").trim() : "");
  }

  get choices() {
    if (this.kind === "rate") return this.options.map((text, i) => [i + 1, `${i + 1}: ${text}`]);
    if (this.kind === "choose") {
      const [left, right] = this.isSwapped ? ["second", "first"] : ["first", "second"];
      return [[left, t("leftBetter")], [right, t("rightBetter")], ["same", t("equal")]];
    }
    return this.options.map((text) => [text, text]);
  }

  /** The keys of what may be answered: digits have their own. */
  get keys() {
    return ["label", "box"].includes(this.kind) && this.options.every(isDigit) ? this.options : [...KEYS];
  }

  /** What a value says on this form, where for a choice left and right may be swapped. */
  words(value) {
    return this.choices.find(([each]) => each === value)?.[1] ?? (typeof value === "string" ? value : JSON.stringify(value));
  }

  /** Whether something was written or drawn that would be lost. */
  get isBegun() {
    return this.text ? this.text.value !== this.before : Boolean(this.places) && JSON.stringify(this.places.value) !== this.before;
  }

  asButtons(said) {
    const likely = (value) => this.item.guesses.some((guess) => guess.value === value);
    this.element.replaceChildren(...this.choices.map(([value, text], i) =>
      el("button", { type: "button", "aria-pressed": String(said === value), onclick: () => this.answer(value), "data-value": String(value) }, this.keys[i] && el("kbd", {}, this.keys[i]), text, likely(value) && el("span", { className: "guess" }, t("guessed")))));
  }

  asText(start) {
    this.before = start;
    this.text = el("textarea", { value: start, "aria-label": session.about.question.words, spellcheck: false, dir: "auto" });
    this.element = el("div", {}, this.text, el("p", { className: "guess" }, t("textKeys")), el("button", { type: "button", className: "primary", onclick: () => this.answer(this.text.value) }, t("keep")));
  }

  asBoxes(picture, start) {
    this.places = new Places(picture.cloneNode(), this.options, start, () => this.mark());
    this.before = JSON.stringify(this.places.value);
    picture.hidden = true;
    this.labels = el("div", { className: "options" });
    this.element = el("div", { className: "item" }, this.labels, this.places.element, el("p", { className: "guess" }, t("boxKeys")), el("button", { type: "button", className: "primary", onclick: () => this.answer(this.places.value) }, t("keep")));
    this.mark();
  }

  mark() {
    this.labels.replaceChildren(...this.options.map((text, i) => el("button", { type: "button", "aria-pressed": String(text === this.places.label), onclick: () => this.places.use(text) }, this.keys[i] && el("kbd", {}, this.keys[i]), text)));
  }

  /** Whether a key means something to it. */
  key(event) {
    if (this.text) {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.answer(this.text.value);
      else if (event.key === " " && event.ctrlKey) this.play();
      else return false;
      return true;
    }
    const number = this.keys.indexOf(event.key);
    if (event.key === "Enter" && this.places) this.answer(this.places.value);
    else if (number >= 0 && this.places && this.options[number]) this.places.use(this.options[number]);
    else if (number >= 0 && !this.places && this.choices[number]) this.answer(this.choices[number][0]);
    else if (event.key === " ") this.play();
    else return this.places?.key(event) ?? false;
    return true;
  }

  play() {
    const sound = document.querySelector("audio.medium, video.medium");
    if (sound) sound.paused ? sound.play() : sound.pause();
  }
}

class Work {
  async show() {
    this.place = el("div", { className: "work" });
    main.replaceChildren(this.place);
    await this.take(await send("POST", "/annotate/next", who()));
  }

  get isBegun() {
    return Boolean(this.form?.isBegun || this.pending);
  }

  async take({ item, progress }) {
    this.pending = this.item = this.form = null; // no key answers for what is not shown yet
    this.progress = progress;
    if (!item) return this.place.replaceChildren(this.meter(progress), el("p", { className: "ask", role: "status" }, t("nothingLeft")), this.buttons(progress));
    this.failure = el("div", { role: "alert" });
    let messages, answers;
    try {
      [messages, answers] = await Promise.all([bubbles(item.messages), Promise.all(item.answers.map(bubbles))]);
    } catch (error) {
      this.item = item; // it can be passed over
      this.failure.append(el("p", { className: "failed" }, `${t("cannotShow")} ${error.message}`));
      return this.place.replaceChildren(this.meter(progress), this.failure, this.buttons(progress));
    }
    this.item = item;
    const media = messages.flatMap((each) => [...each.querySelectorAll(".medium")]);
    this.form = new Form(item, media, (value) => this.say("answers", value));
    if (this.form.isSwapped) answers.reverse();
    this.place.replaceChildren(this.meter(progress), el("p", { className: "ask" }, session.about.question.words), el("div", { className: "item" }, messages),
      answers.length ? el("div", { className: "answers" }, answers.map((each) => el("article", {}, each))) : "",
      item.guesses.length ? el("p", { className: "guess" }, `${t("guessesOf")} ${item.guesses.map(({ model }) => model).join(", ")}`) : "", this.form.element, this.failure, this.buttons(progress));
    this.place.dataset.item = item.id;
    this.since = performance.now();
    if (this.form.text) this.form.text.focus();
    else main.focus();
    tell(session.about.question.words);
  }

  meter({ items, complete, yours }) {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    bar.setAttribute("viewBox", "0 0 100 1");
    bar.setAttribute("preserveAspectRatio", "none");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("width", String(items ? (100 * complete) / items : 0));
    rect.setAttribute("height", "1");
    bar.append(rect);
    return el("div", {}, el("div", { className: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": String(items), "aria-valuenow": String(complete), "aria-label": t("complete") }, bar),
      el("p", { className: "small soft" }, `${t("complete")} ${complete} / ${items} · ${t("yours")} ${yours}`));
  }

  buttons({ can_undo: canUndo }) {
    return el("p", { className: "row" }, this.item && el("button", { type: "button", onclick: () => this.say("skips") }, el("kbd", {}, "Alt S"), t("skipItem")),
      canUndo && el("button", { type: "button", onclick: () => this.undo() }, el("kbd", {}, "Alt U"), t("undo")));
  }

  /** Send what was said; where that fails it stays, and goes again under the same id. */
  async say(path, value = null) {
    if (this.pending) return;
    this.pending = { path, body: { ...who(), id: newId(), item: this.item.id, value, seconds: (performance.now() - this.since) / 1000 } };
    await this.deliver();
  }

  async undo() {
    if (this.pending || !this.progress?.can_undo) return;
    this.pending = { path: "undo", body: { ...who(), id: newId() } };
    await this.deliver();
  }

  async deliver() {
    if (!this.pending) return;
    const { path, body } = this.pending;
    let kept;
    try {
      kept = await send("POST", `/annotate/${path}`, body);
    } catch (error) {
      if (error.status === 400) { // it will not do: nothing is pending, and the form is as it was
        this.pending = null;
        this.failure?.replaceChildren(el("div", { className: "failed" }, `${t("notSaved")} ${error.message}`));
        return;
      }
      const again = () => { this.failure.replaceChildren(); this.deliver(); };
      const change = () => { this.failure.replaceChildren(); this.pending = null; };
      this.failure?.replaceChildren(el("div", { className: "failed" }, `${t("notSaved")} ${error.message}`, el("button", { type: "button", onclick: again }, t("retry")), el("button", { type: "button", onclick: change }, t("edit"))));
      return;
    }
    await this.take(kept);
  }

  key(event) {
    if (event.altKey && event.code === "KeyS" && this.item) this.say("skips");
    else if (event.altKey && event.code === "KeyU") this.undo();
    else if (event.altKey || event.metaKey || !this.form || (isTyping() && !this.form.text) || isPressing(event)) return false;
    else return this.form.key(event);
    return true;
  }
}

class Review {
  async show() {
    const { count, items } = await get(`/annotate/disputes${query()}`);
    this.left = count;
    this.forms = new Map(); // of what is not decided yet, by their elements
    this.count = el("p", { className: "ask" }, `${t("disputed")}: ${count}`);
    this.decisions = this.decisions ?? 0; // on this page, which may be taken back
    this.back = el("p", { hidden: !this.decisions }, el("button", { type: "button", onclick: () => this.undo() }, el("kbd", {}, "Alt U"), t("undo")));
    const place = el("div", { className: "work" }, this.count, this.back);
    main.replaceChildren(place);
    for (const item of items) place.append(await this.dispute(item));
    ([...this.forms.keys()][0] ?? main).focus({ preventScroll: true });
  }

  get isBegun() {
    return [...(this.forms?.values() ?? [])].some((form) => form.isBegun);
  }

  /** Keys are for the dispute that has the focus, else for the first. */
  key(event) {
    if (event.altKey && event.code === "KeyU") {
      this.undo();
      return true;
    }
    if (event.altKey || event.metaKey || !this.forms?.size) return false;
    const inside = [...this.forms].find(([each]) => each.contains(document.activeElement));
    if (isPressing(event) || (!inside && !isNowhere())) return false;
    const [, form] = inside ?? [...this.forms][0];
    return form.text && !isTyping() ? false : form.key(event);
  }

  async undo() {
    if (this.undoing || !this.decisions || (this.isBegun && !confirm(t("leaveSure")))) return;
    this.undoing = true;
    this.forms = null; // nothing is decided until it is shown anew
    this.undoId ??= newId(); // what is sent twice takes back one
    try {
      await send("POST", "/annotate/undo", { ...who(), id: this.undoId });
      this.undoId = null;
      this.decisions -= 1;
      await this.show();
    } catch (error) {
      main.replaceChildren(el("div", { className: "work" }, el("p", { role: "alert", className: "failed" }, error.message, el("button", { type: "button", onclick: () => this.undo() }, t("retry")))));
    } finally {
      this.undoing = false;
    }
  }

  /** What is decided makes room for the next. */
  decided(element) {
    const isHere = isNowhere() || element.contains(document.activeElement); // else somebody types elsewhere by now
    this.forms.delete(element);
    this.decisions += 1;
    this.back.hidden = false;
    element.replaceChildren(el("p", { role: "status" }, t("decided")));
    this.count.textContent = `${t("disputed")}: ${(this.left -= 1)}`;
    const [next] = this.forms.keys();
    if (!isHere) return;
    if (!next) return main.focus();
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  async dispute(item) {
    const messages = await bubbles(item.messages), answers = await Promise.all(item.answers.map(bubbles));
    const element = el("section", { className: "dispute", "data-item": item.id, tabIndex: -1 });
    let isSending = false;
    const form = new Form(item, messages.flatMap((each) => [...each.querySelectorAll(".medium")]), async (value) => {
      if (isSending) return;
      isSending = true;
      try {
        await send("POST", "/annotate/decisions", { ...who(), id: newId(), item: item.id, value });
        this.decided(element);
      } catch (error) {
        element.append(el("p", { role: "alert", className: "failed" }, error.message));
        isSending = false;
      }
    });
    this.forms.set(element, form);
    const said = Object.entries(item.by_person).map(([name, value]) => el("li", {}, `${name}: ${form.words(value)}`));
    if (form.isSwapped) answers.reverse();
    element.append(...messages, ...(answers.length ? [el("div", { className: "answers" }, answers.map((each) => el("article", {}, each)))] : []), el("ul", {}, said, item.passed_over.map((name) => el("li", { className: "soft" }, `${name}: ${t("passedOver")}`))), form.element);
    return element;
  }
}

class Overview {
  async show() {
    const told = await get(`/annotate/statistics${query()}`);
    const share = (value) => (value === null ? "-" : value.toFixed(2));
    const row = ({ name, answers, gold_right: right, gold_asked: asked, seconds, skill }) => el("tr", {}, [name, answers, asked ? `${right} / ${asked}` : "-", seconds === null ? "-" : seconds.toFixed(1), share(skill)].map((text) => el("td", {}, String(text))));
    main.replaceChildren(el("div", { className: "work" }, el("p", { className: "ask" }, `${t("complete")} ${told.complete} / ${told.items}`),
      el("p", {}, `${t("alpha")}: `, el("strong", { id: "alpha" }, share(told.alpha))),
      el("div", { className: "scroll", tabIndex: 0 }, el("table", { className: "people" }, el("thead", {}, el("tr", {}, ["nameLabel", "answersColumn", "goldColumn", "secondsColumn", "skillColumn"].map((key) => el("th", { scope: "col" }, t(key))))), el("tbody", {}, told.persons.map(row)))),
      el("ul", {}, told.kappas.map(({ first, second, items, kappa }) => el("li", {}, `${first}, ${second}: κ ${share(kappa)} (${items})`)))));
  }
}

begin("/annotate/project", { work: Work, review: Review, overview: Overview }, () => (session.about.can_review ? ["work", "review", "overview"] : ["work"]), (name) => name);
