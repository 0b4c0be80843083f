// Compare: one question, two answers whose makers are not told until one is chosen.

import { download, get, send } from "./api.js";
import { answered, Composer, took } from "./compose.js";
import { el } from "./dom.js";
import { t } from "./words.js";

export class Compare {
  constructor(place, models, modalities) {
    Object.assign(this, { place, models, modalities });
  }

  async show() {
    const choose = (number) => el("select", { "aria-label": `${t("serves")} ${number + 1}` }, this.models.map((model) =>
      el("option", { value: model.id, selected: model.id === (this.models[number] ?? this.models[0]).id }, model.id)));
    this.chosen = [choose(0), choose(1)];
    this.temperature = el("input", { type: "number", min: 0, max: 2, step: 0.1, value: this.models.length > 1 ? 0 : 0.7, "aria-label": t("temperature") });
    this.composer = new Composer(this.modalities, (content) => this.ask(content), t("askBoth"));
    this.sides = el("div", { className: "sides" });
    this.votes = el("div", { className: "row" });
    this.tally = el("div", { className: "small soft" });
    this.place.replaceChildren(el("div", { className: "page" }, el("h2", {}, t("compareTitle")), el("p", { className: "soft" }, t("compareHelp")),
      el("div", { className: "row" }, this.chosen, el("label", { className: "row small soft" }, t("temperature"), this.temperature)),
      this.composer.element, this.sides, this.votes, this.tally));
    await this.count();
  }

  get isBegun() {
    return this.composer.isBegun || this.votes.childElementCount > 0;
  }

  async ask(content) {
    const models = this.chosen.map((select) => select.value);
    const order = Math.random() < 0.5 ? [0, 1] : [1, 0]; // which model answers at the left
    const kinds = this.models.find((model) => model.id === models[0]).architecture.output_modalities;
    const seed = Math.floor(Math.random() * 2 ** 31);
    this.votes.replaceChildren();
    const sides = order.map((which, side) => ({ model: models[which], bubble: el("div", { className: "bubble wide" }), facts: el("p", { className: "small soft" }), title: el("h3", {}, side ? "B" : "A") }));
    this.sides.replaceChildren(...sides.map((side) => el("section", {}, side.title, side.bubble, side.facts)));
    const asked = [{ role: "user", content }];
    await Promise.all(sides.map(async (side, number) => {
      const body = { model: side.model, messages: asked, modalities: [kinds.includes("text") ? "text" : kinds[0]], temperature: Number(this.temperature.value), seed: seed + number };
      const told = await answered(body, side.bubble);
      side.parts = told.parts;
      side.facts.textContent = took(told.facts);
    }));
    const vote = (label, chosen, equal = false) => el("button", { type: "button", onclick: () => this.vote(asked, sides, chosen, equal) }, label);
    this.votes.replaceChildren(vote(t("betterA"), 0), vote(t("equal"), 0, true), vote(t("betterB"), 1));
  }

  async vote(asked, sides, chosen, equal) {
    const message = (side) => ({ role: "assistant", content: side.parts });
    const [better, worse] = [sides[chosen], sides[1 - chosen]];
    this.votes.replaceChildren();
    for (const side of sides) side.title.append(` · ${side.model}`);
    try {
      await send("POST", "/preferences", { messages: asked, chosen: message(better), rejected: message(worse), models: [better.model, worse.model], equal });
    } catch (error) {
      this.composer.problem.textContent = error.message;
    }
    await this.count();
  }

  async count() {
    try {
      const { data } = await get("/preferences");
      const lines = data.map(({ chosen, rejected, equal, count }) => el("div", {}, `${chosen} ${equal ? "=" : ">"} ${rejected}: ${count}`));
      const rows = data.length ? el("button", { type: "button", className: "plain", onclick: () => download("/preferences/rows.zip", "preferences.zip") }, t("exportRows")) : "";
      this.tally.replaceChildren(...lines, rows);
    } catch {
      this.tally.replaceChildren(t("notKept"));
    }
  }
}
