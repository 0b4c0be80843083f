// What is asked on the pages beside Talk: words and files, and one answer to them.

import { events } from "./api.js";
import { el, iconButton } from "./dom.js";
import { partOf, shown, Sounding } from "./media.js";
import { t } from "./words.js";

/** A box for words and files of `modalities`. `label`: of its button; `asks`: what it asks for. */
export class Composer {
  constructor(modalities, onask, label, asks = "") {
    Object.assign(this, { modalities, onask, attached: [] });
    this.text = el("textarea", { rows: 2, placeholder: asks || t("ask"), "aria-label": asks || t("message"), onpaste: (event) => this.attach([...event.clipboardData.files]),
      onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.ask(); } } });
    this.pictures = el("div", { className: "attached" });
    this.files = el("input", { type: "file", multiple: true, className: "hidden", tabIndex: -1, "aria-label": t("attach") });
    this.files.addEventListener("change", () => { this.attach([...this.files.files]); this.files.value = ""; });
    this.problem = el("p", { className: "small bad", role: "alert" });
    this.button = el("button", { type: "button", className: "primary", onclick: () => this.ask() }, label);
    this.element = el("div", { className: "composer boxed" }, this.pictures, this.problem,
      el("div", { className: "line" }, this.files, iconButton("attach", t("attach"), () => this.files.click()), this.text, this.button));
    receives(this.element, (files) => this.attach(files));
    this.accept(modalities);
  }

  /** Whether there is something that would be lost. */
  get isBegun() {
    return Boolean(this.text.value || this.attached.length || this.button.disabled);
  }

  accept(modalities) {
    this.modalities = modalities;
    this.files.accept = modalities.flatMap((kind) => kind.files).join(",");
  }

  async attach(files) {
    this.problem.textContent = "";
    for (const file of files) {
      try {
        this.attached.push(await partOf(file, this.modalities));
      } catch (error) {
        this.problem.textContent = error.message;
      }
    }
    this.show();
  }

  show() {
    this.pictures.replaceChildren(...this.attached.map((part, number) => el("figure", {}, shown(part),
      el("button", { type: "button", "aria-label": t("discard"), onclick: () => { this.attached.splice(number, 1); this.show(); } }, "×"))));
  }

  /** The content of a message; null where nothing is asked. */
  content() {
    const words = this.text.value.trim();
    if (!words && !this.attached.length) return null;
    return this.attached.length ? [...this.attached, ...(words ? [{ type: "text", text: words }] : [])] : words;
  }

  async ask() {
    const content = this.content();
    if (this.button.disabled) return;
    if (content === null) {
      this.problem.textContent = t("nothingAsked");
      this.text.focus();
      return;
    }
    this.button.disabled = true;
    this.problem.textContent = "";
    try {
      await this.onask(content);
    } catch (error) {
      this.problem.textContent = error.message;
    }
    this.button.disabled = false;
  }
}

/** Let an element take files that are dropped on it. */
export function receives(element, onfiles) {
  const withFiles = (handle) => (event) => { // words that are dragged go where they are dropped
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    handle(event);
  };
  element.addEventListener("dragover", withFiles(() => element.classList.add("over")));
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", withFiles(({ dataTransfer }) => {
    element.classList.remove("over");
    onfiles([...dataTransfer.files]);
  }));
}

/** Show an answer in an element while it comes; returns its content parts and what it took. */
export async function answered(body, place) {
  const begun = performance.now(), facts = {}, parts = [], sounding = new Sounding();
  const paragraph = el("p", {}), sketch = el("img", { className: "drawn", alt: t("picture") });
  place.replaceChildren(paragraph);
  place.classList.add("waiting");
  try {
    for await (const chunk of events("/v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true }, previews: 4 })) {
      if (chunk.usage) facts.tokens = chunk.usage.completion_tokens;
      const { content, preview, audio, images } = chunk.choices[0]?.delta ?? {};
      if (content || preview || audio || images) { facts.first ??= (performance.now() - begun) / 1000; place.classList.remove("waiting"); }
      if (content) paragraph.textContent += content;
      if (preview?.image_url) { sketch.src = preview.image_url.url; place.append(sketch); }
      if (audio?.data) sounding.add(audio.data);
      if (images) parts.push(...images);
    }
  } finally {
    place.classList.remove("waiting");
  }
  facts.seconds = (performance.now() - begun) / 1000;
  if (paragraph.textContent) parts.unshift({ type: "text", text: paragraph.textContent });
  if (sounding.pieces.length) parts.push(sounding.part());
  place.replaceChildren(...parts.map((part) => shown(part, true)));
  return { parts, facts };
}

/** What an answer took, in words. */
export const took = ({ first, seconds, tokens }) =>
  [`${seconds.toFixed(2)} ${t("seconds")}`, first === undefined ? "" : `${t("firstIn")} ${first.toFixed(2)} ${t("seconds")}`, tokens ? `${tokens} ${t("tokensUnit")}` : ""].filter(Boolean).join(" · ");
