// Talk: a conversation in words, pictures and sound. It is kept on the server after every turn.

import { download, events, get, send, tell } from "./api.js";
import { receives } from "./compose.js";
import { el, iconButton } from "./dom.js";
import { partOf, record, shown, Sounding } from "./media.js";
import { current, t } from "./words.js";

const PREVIEWS = 6; // of a picture that is being drawn
const FEW = 8; // tokens, of which a rate means nothing
const TITLE = 60; // letters of the first question

export class Talk {
  constructor(place, models, modalities) {
    Object.assign(this, { place, models, modalities, talk: null, attached: [], stopping: null, recorder: null });
    this.now = { id: null, title: "", messages: [] }; // the conversation that is shown; a running answer holds its own
    this.keeps = true; // whether the server keeps conversations
  }

  async show() {
    if (this.talk && (this.language === current() || this.stopping || this.recorder || this.isStarting)) {
      this.place.replaceChildren(this.talk); // as it was left, a running answer included
      return;
    }
    this.language = current();
    const begun = this.talk ? this.fields().map((field) => field.value) : null;
    this.list = el("ul", { "aria-label": t("conversations") });
    this.search = el("input", { type: "search", placeholder: t("search"), "aria-label": t("search"), oninput: () => this.listed() });
    this.side = el("aside", { className: "side", "aria-label": t("conversations") },
      el("button", { type: "button", className: "primary", onclick: () => this.begin() }, t("newTalk")), this.search, this.list);
    this.room = el("div", { className: "messages", role: "log", "aria-label": t("talk"), tabIndex: 0 });
    this.room.addEventListener("load", () => this.follow(), true); // pictures have no height until they are loaded
    this.talk = el("div", { className: "talk" }, this.side, el("section", { className: "room", "aria-label": t("talk") }, this.top(), this.room, this.composer()));
    this.place.replaceChildren(this.talk);
    if (begun) { // in another language, as it was
      const [model, ...others] = begun;
      this.model.value = model;
      this.kinds();
      this.fields().slice(1).forEach((field, place) => { field.value = others[place]; });
      this.showAttached();
      this.fit();
    }
    this.draw();
    await this.listed();
  }

  /** What a person has set or written, the model first. */
  fields() {
    return [this.model, this.answerIn, this.seed, this.temperature, this.guidance, this.tokens, this.text];
  }

  /** Another page is shown: the microphone is not left on. */
  hide() {
    if (this.recorder) this.speak();
  }

  top() {
    this.model = el("select", { "aria-label": t("serves"), onchange: () => { this.kinds(); if (!this.now.messages.length) this.draw(); } }, this.models.map((model) => el("option", { value: model.id }, model.id)));
    this.answerIn = el("select", { "aria-label": t("answerIn") });
    const number = (name, more) => (this[name] = el("input", { type: "number", ...more }));
    this.settings = el("div", { className: "settings", hidden: true },
      el("label", {}, t("seed"), number("seed", { min: 0, step: 1, value: 0 })),
      el("label", {}, t("temperature"), number("temperature", { min: 0, max: 2, step: 0.1, value: 0 })),
      el("label", {}, t("guidance"), number("guidance", { min: 0, max: 20, step: 0.5, placeholder: t("auto") })),
      el("label", {}, t("tokens"), number("tokens", { min: 1, max: 4096, step: 1, value: 512 })));
    const menu = iconButton("menu", t("menu"), () => this.talk.classList.toggle("menu-open"), { className: "icon menu" });
    const toggle = iconButton("settings", t("settings"), () => {
      this.settings.hidden = !this.settings.hidden;
      toggle.setAttribute("aria-expanded", String(!this.settings.hidden));
    }, { "aria-expanded": "false" });
    this.kinds();
    return el("div", { className: "top" }, el("div", { className: "row" }, menu, this.model,
      el("label", { className: "row small soft" }, t("answerIn"), this.answerIn), toggle), this.settings);
  }

  /** The modalities that the chosen model answers in. */
  kinds() {
    const { output_modalities: writes } = this.models.find((model) => model.id === this.model.value).architecture;
    const options = writes.includes("text") ? ["text", ...writes.filter((kind) => kind !== "text")] : writes;
    if (options.length > 1) options.unshift("auto");
    this.answerIn.replaceChildren(...options.map((kind) => el("option", { value: kind }, t(kind))));
    this.answerIn.disabled = options.length < 2;
  }

  composer() {
    this.pictures = el("div", { className: "attached" });
    this.text = el("textarea", {
      rows: 1, placeholder: t("ask"), "aria-label": t("message"),
      oninput: () => this.fit(),
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask(); }
      },
      onpaste: (event) => this.attach([...event.clipboardData.files]),
    });
    const files = el("input", { type: "file", multiple: true, className: "hidden", tabIndex: -1, "aria-label": t("attach"), accept: this.modalities.flatMap((kind) => kind.files).join(",") });
    files.addEventListener("change", () => { this.attach([...files.files]); files.value = ""; });
    const camera = el("input", { type: "file", accept: "image/*", className: "hidden", tabIndex: -1, "aria-label": t("camera"), capture: "environment" });
    camera.addEventListener("change", () => { this.attach([...camera.files]); camera.value = ""; });
    this.microphone = iconButton("microphone", t("record"), () => this.speak());
    this.button = iconButton("send", t("send"), () => (this.stopping ? this.stopping.abort() : this.ask()), { className: "icon primary" });
    this.form = el("div", { className: "composer" }, this.pictures,
      el("div", { className: "line" }, files, camera, iconButton("attach", t("attach"), () => files.click()),
        iconButton("camera", t("camera"), () => camera.click()), this.microphone, this.text, this.button));
    receives(this.form, (dropped) => this.attach(dropped));
    return this.form;
  }

  fit() {
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }

  // what is asked

  async attach(files) {
    for (const file of files) {
      try {
        this.attached.push(await partOf(file, this.modalities));
      } catch (error) {
        this.failed(error.message);
      }
    }
    this.showAttached();
  }

  showAttached() {
    this.pictures.replaceChildren(...this.attached.map((part, number) => el("figure", {}, shown(part),
      el("button", { type: "button", "aria-label": t("discard"), onclick: () => { this.attached.splice(number, 1); this.showAttached(); } }, "×"))));
    this.text.focus();
  }

  async speak() {
    if (this.isStarting) return;
    try {
      if (this.recorder) {
        const recorder = this.recorder;
        this.recorder = null;
        this.attached.push(await recorder.stop());
        this.showAttached();
      } else {
        this.isStarting = true;
        const recorder = await record().finally(() => { this.isStarting = false; });
        if (this.talk.isConnected) this.recorder = recorder;
        else await recorder.stop(); // another page is shown by now
      }
    } catch (error) {
      this.failed(t("noMicrophone") + error.message);
    }
    const label = t(this.recorder ? "recording" : "record");
    this.microphone.classList.toggle("recording", Boolean(this.recorder));
    Object.assign(this.microphone, { title: label, ariaLabel: label });
  }

  async ask() {
    const words = this.text.value.trim();
    if (this.recorder) await this.speak();
    if (this.stopping || (!words && !this.attached.length)) return;
    const content = [...this.attached, ...(words ? [{ type: "text", text: words }] : [])];
    this.now.messages.push({ role: "user", content: this.attached.length ? content : words, extra: {} });
    this.now.title ||= words.slice(0, TITLE) || t(this.attached[0].type === "image_url" ? "image" : "audio");
    this.attached = [];
    this.text.value = "";
    this.fit();
    this.showAttached();
    await this.answer();
  }

  body() {
    const number = (input) => (input.value === "" ? undefined : Number(input.value));
    const kind = this.answerIn.value;
    return {
      model: this.model.value, messages: this.now.messages.map(({ role, content }) => ({ role, content: role === "assistant" ? words(content) : content })),
      modalities: [kind], seed: number(this.seed), temperature: number(this.temperature), guidance: number(this.guidance),
      max_completion_tokens: number(this.tokens), stream: true, stream_options: { include_usage: true }, previews: PREVIEWS,
    };
  }

  async answer() {
    const body = this.body(), conversation = this.now, isShown = () => conversation === this.now;
    const stopping = (this.stopping = new AbortController());
    this.keep(conversation); // the question is not lost if the page is
    const message = { role: "assistant", content: [], extra: { model: body.model, seed: body.seed } };
    const bubble = el("div", { className: "bubble waiting" });
    const paragraph = el("p", {}), picture = el("img", { className: "drawn", alt: t("picture") }), sounding = new Sounding();
    this.draw(el("article", { className: "message assistant", "aria-busy": "true" }, bubble));
    this.button.replaceWith((this.button = iconButton("stop", t("stop"), () => this.stopping?.abort(), { className: "icon primary" })));
    const begun = performance.now();
    let said = "";
    const add = (element) => { bubble.classList.remove("waiting"); if (!element.isConnected) bubble.append(element); this.follow(); };
    try {
      for await (const chunk of events("/v1/chat/completions", body, stopping.signal)) {
        if (chunk.usage) message.extra.tokens = chunk.usage.completion_tokens;
        const [choice] = chunk.choices;
        if (!choice) continue;
        const { content, preview, audio, images } = choice.delta;
        if (content) { message.extra.first ??= performance.now() - begun; paragraph.textContent = said += content; add(paragraph); }
        if (preview?.image_url) { picture.src = preview.image_url.url; add(picture); }
        if (audio?.data) { message.extra.first ??= performance.now() - begun; sounding.add(audio.data); bubble.classList.remove("waiting"); }
        if (images) { message.content.push(...images); picture.remove(); }
        if (choice.finish_reason === "length") message.extra.note = t("tooLong");
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        this.ended(stopping);
        if (isShown()) { this.draw(); this.failed(error.message); }
        return;
      }
      message.extra.note = t("stopped");
      sounding.stop();
    }
    message.extra.seconds = (performance.now() - begun) / 1000;
    if (sounding.pieces.length) message.content.push(sounding.part());
    if (said) message.content.unshift({ type: "text", text: said });
    if (message.content.length) conversation.messages.push(message);
    this.ended(stopping);
    if (isShown()) this.draw();
    tell(`${t("answered")}: ${said}`);
    await this.keep(conversation);
  }

  ended(stopping) {
    if (this.stopping !== stopping) return; // another answer runs by now
    this.stopping = null;
    this.button.replaceWith((this.button = iconButton("send", t("send"), () => this.ask(), { className: "icon primary" })));
  }

  failed(text) {
    this.room.append(el("article", { className: "message assistant" }, el("div", { className: "bubble failed", role: "alert" }, el("p", {}, text))));
    this.follow();
  }

  // what is shown

  draw(...more) {
    const articles = this.now.messages.map((message, number) => this.article(message, number));
    this.room.replaceChildren(...(articles.length || more.length ? [...articles, ...more] : [this.empty()]));
    this.follow();
  }

  empty() {
    const { output_modalities: writes } = this.models.find((model) => model.id === this.model.value).architecture;
    const unlearned = this.modalities.map((kind) => kind.name).filter((kind) => !writes.includes(kind));
    const { base } = this.models.find((model) => model.id === this.model.value); // without a language model it knows its own tasks alone
    const examples = (base ? ["example1", "example2", "example3"] : []).map((key) =>
      el("button", { type: "button", onclick: () => { this.text.value = t(key); this.ask(); } }, t(key)));
    return el("div", { className: "empty" }, el("h2", {}, t("hello")), unlearned.length ? el("p", { className: "small" }, t("cannot") + unlearned.map(t).join(", ")) : null,
      el("div", { className: "row" }, examples));
  }

  article(message, number) {
    const parts = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
    const { seconds, tokens, first, note } = message.extra ?? {};
    const rate = tokens >= FEW && first ? (tokens - 1) / (seconds - first / 1000) : 0;
    const facts = [rate ? `${rate.toFixed(1)} ${t("rate")}` : "", seconds ? `${seconds.toFixed(1)} ${t("seconds")}` : "", note ?? ""].filter(Boolean);
    const isLast = number === this.now.messages.length - 1;
    const actions = message.role === "user"
      ? [isLast && !this.stopping ? el("button", { type: "button", className: "plain", onclick: () => this.answer() }, t("retry")) : null, // its answer was lost
        el("button", { type: "button", className: "plain", onclick: () => this.change(number) }, t("edit"))]
      : [isLast ? el("button", { type: "button", className: "plain", onclick: () => this.again() }, t("retry")) : null,
        el("button", { type: "button", className: "plain", onclick: () => navigator.clipboard?.writeText(words(message.content)) }, t("copy"))];
    return el("article", { className: `message ${message.role}`, "aria-label": message.role === "user" ? t("you") : (message.extra?.model ?? "Plait") },
      el("div", { className: "bubble" }, parts.map((part) => shown(part, message.role === "assistant"))),
      el("div", { className: "row small soft" }, facts.join(" · "), actions));
  }

  follow() {
    this.room.scrollTop = this.room.scrollHeight;
  }

  async again() {
    if (this.stopping) return;
    this.now.messages.pop();
    this.seed.value = Number(this.seed.value || 0) + 1;
    await this.answer();
  }

  change(number) {
    if (this.stopping) return;
    const { content } = this.now.messages[number];
    this.now.messages = this.now.messages.slice(0, number);
    this.attached = typeof content === "string" ? [] : content.filter((part) => part.type !== "text");
    this.text.value = words(content);
    this.draw();
    this.showAttached();
    this.fit();
  }

  // what is kept

  begin() {
    this.stopping?.abort();
    this.now = { id: null, title: "", messages: [] };
    this.attached = [];
    this.talk.classList.remove("menu-open");
    this.draw();
    this.showAttached();
    this.listed();
  }

  /** Store a conversation, one request after the other, so that a new one gets one id. */
  keep(conversation) {
    const store = async () => {
      if (!this.keeps) return;
      const body = { title: conversation.title, messages: conversation.messages };
      try {
        if (conversation.id) await send("PUT", `/conversations/${conversation.id}`, body);
        else conversation.id = (await send("POST", "/conversations", body)).id;
      } catch (error) {
        if (conversation === this.now) this.failed(error.message);
      }
      await this.listed();
    };
    conversation.kept = (conversation.kept ?? Promise.resolve()).then(store);
    return conversation.kept;
  }

  async listed() {
    const look = (this.look = (this.look ?? 0) + 1); // answers may come in another order than they were asked for
    try {
      const { data } = await get(`/conversations?query=${encodeURIComponent(this.search.value)}`);
      if (look !== this.look) return;
      this.list.replaceChildren(...data.map((entry) => this.entry(entry)));
    } catch {
      this.keeps = false;
      this.search.hidden = true;
    }
  }

  entry({ id, title }) {
    const open = el("button", { type: "button", className: "plain open", "aria-current": id === this.now.id ? "true" : undefined, onclick: () => this.open(id) }, title || t("untitled"));
    const more = el("select", { className: "small", "aria-label": `${title || t("untitled")}: ${t("more")}` },
      el("option", { value: "" }, "⋯"), ...["rename", "exportRows", "exportPage", "remove"].map((name) => el("option", { value: name }, t(name))));
    more.addEventListener("change", async () => { const chosen = more.value; more.value = ""; await this.act(chosen, id, title); });
    return el("li", {}, open, more);
  }

  async act(chosen, id, title) {
    if (chosen === "exportRows") await download(`/conversations/${id}/rows.zip`, "conversation.zip");
    if (chosen === "exportPage") await download(`/conversations/${id}/page.html`, "conversation.html");
    if (chosen === "rename") {
      const name = prompt(t("rename"), title);
      if (name === null) return;
      const { messages } = await get(`/conversations/${id}`);
      await send("PUT", `/conversations/${id}`, { title: name, messages });
      if (id === this.now.id) this.now.title = name;
    }
    if (chosen === "remove") {
      if (!confirm(t("removeSure"))) return;
      await send("DELETE", `/conversations/${id}`);
      if (id === this.now.id) this.begin();
    }
    await this.listed();
  }

  async open(id) {
    this.stopping?.abort();
    const { title, messages } = await get(`/conversations/${id}`);
    this.now = { id, title, messages };
    this.attached = [];
    const spoke = messages.findLast(({ extra }) => extra?.model)?.extra.model;
    if (spoke !== this.model.value && this.models.some((model) => model.id === spoke)) {
      this.model.value = spoke;
      this.kinds();
    }
    this.talk.classList.remove("menu-open");
    this.draw();
    this.showAttached();
    await this.listed();
  }
}

/** The words of a message's content. */
function words(content) {
  return typeof content === "string" ? content : content.filter((part) => part.type === "text").map((part) => part.text).join("\n");
}
