// Model: what is served, and how it is doing right now.

import { get, request } from "./api.js";
import { el } from "./dom.js";
import { t } from "./words.js";

const EVERY = 2000; // milliseconds between two looks

/** Samples of Prometheus' text format: [name, labels, value]. */
function samples(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, labels = "", value] = line.match(/^(\w+)(?:\{(.*)\})? (\S+)$/) ?? [];
    return [name, Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, held]) => [key, held])), Number(value)];
  });
}

/** The time within which half of what a histogram counts lies: its bucket's upper bound. */
function median(all, name) {
  const counts = new Map(); // of all models together, by upper bound
  for (const [each, { le }, count] of all) if (each === `${name}_bucket`) counts.set(le, (counts.get(le) ?? 0) + count);
  const buckets = [...counts].map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count]);
  const total = Math.max(0, ...buckets.map(([, count]) => count));
  const found = buckets.sort(([a], [b]) => a - b).find(([, count]) => total && count >= total / 2);
  return found ? `≤ ${found[0]} ${t("seconds")}` : t("none");
}

export class ModelPage {
  constructor(place, models) {
    Object.assign(this, { place, models, before: null });
  }

  async show() {
    const { models } = this;
    const row = (label, value) => el("tr", {}, el("th", { scope: "row" }, label), models.map((model) => el("td", {}, value(model))));
    const listed = (names) => names.map(t).join(", ");
    this.figures = el("div", { className: "cards" });
    const [first] = models;
    this.place.replaceChildren(el("div", { className: "page" },
      el("section", {}, el("h2", {}, t("modelTitle")), el("div", { className: "scroll", tabIndex: 0 }, el("table", {},
        el("thead", {}, el("tr", {}, el("td", {}), models.map((model) => el("th", { scope: "col" }, model.id)))),
        el("tbody", {}, row(t("parameters"), (model) => model.parameters.toLocaleString()), row(t("base"), (model) => model.base ?? t("none")),
          row(t("context"), (model) => model.max_model_len.toLocaleString()), row(t("reads"), (model) => listed(model.architecture.input_modalities)),
          row(t("writes"), (model) => listed(model.architecture.output_modalities)))))),
      el("section", {}, el("h2", {}, t("live")), this.figures),
      el("section", {}, el("h2", {}, t("api")), el("pre", { tabIndex: 0 }, [
        "from openai import OpenAI", "", `client = OpenAI(base_url="${location.origin}/v1", api_key="none")`,
        `answer = client.chat.completions.create(model="${first.id}", messages=[{"role": "user", "content": "Hello!"}])`,
        "print(answer.choices[0].message.content)"].join("\n")))));
    this.timer = setInterval(() => this.look().catch(() => {}), EVERY);
    await this.look();
  }

  hide() {
    clearInterval(this.timer);
  }

  async look() {
    const all = samples(await (await request("/metrics")).text());
    const sum = (name, fits = () => true) => all.filter(([each, labels]) => each === name && fits(labels)).reduce((total, [, , value]) => total + value, 0);
    const tokens = sum("plait_tokens_total", (labels) => labels.side === "answered"), now = performance.now();
    const rate = this.before ? (1000 * (tokens - this.before.tokens)) / (now - this.before.now) : 0;
    this.before = { tokens, now };
    const figures = [
      [t("outstanding"), sum("plait_requests_outstanding")], [t("waiting"), sum("plait_requests_waiting")],
      [t("requests"), sum("plait_requests_total", (labels) => labels.path.startsWith("/v1/"))], [t("perSecond"), rate.toFixed(1)],
      [t("firstWords"), median(all, "plait_first_words_seconds")], [t("wholeAnswer"), median(all, "plait_answer_seconds")],
    ];
    this.figures.replaceChildren(...figures.map(([label, value]) => el("div", { className: "card" }, el("span", { className: "small soft" }, label), el("b", {}, String(value)))));
  }
}

export const loaded = () => get("/v1/models").then(({ data }) => data);
