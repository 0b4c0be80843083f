// Grid: what goes in by what comes out, each cell with what was measured of it, and to be tried.

import { get } from "./api.js";
import { answered, Composer, took } from "./compose.js";
import { el } from "./dom.js";
import { t } from "./words.js";

const figure = (cell) => (cell.value > 1 || !/match|accuracy|rate|error|F1/.test(cell.metric) ? cell.value.toFixed(2) : `${(100 * cell.value).toFixed(1)} %`);

const SHARES = /match|accuracy|F1/;

export class Grid {
  constructor(place, models, modalities) {
    Object.assign(this, { place, models, modalities, chosen: null });
  }

  async show() {
    this.model = el("select", { "aria-label": t("serves"), onchange: () => this.measure() }, this.models.map((model) => el("option", { value: model.id }, model.id)));
    this.table = el("div", { className: "scroll", tabIndex: 0 });
    this.panel = el("section", { "aria-live": "polite" });
    this.place.replaceChildren(el("div", { className: "page" }, el("div", { className: "row" }, el("h2", {}, t("gridTitle")), this.model), el("p", { className: "soft" }, t("gridHelp")), this.table, this.panel));
    await this.measure();
  }

  async measure() {
    this.served = this.models.find((model) => model.id === this.model.value);
    const { cells } = await get(`/reports/${encodeURIComponent(this.served.id)}`);
    this.cells = cells;
    const { input_modalities: reads, output_modalities: writes } = this.served.architecture;
    this.table.replaceChildren(el("table", { className: "grid" },
      el("thead", {}, el("tr", {}, el("td", {}), reads.map((to) => el("th", { scope: "col" }, `→ ${t(to)}`)))),
      el("tbody", {}, reads.map((from) => el("tr", {}, el("th", { scope: "row" }, `${t(from)} →`), reads.map((to) => el("td", {}, this.cell(from, to, writes.includes(to)))))))));
    const first = cells[0]?.cell.split("->") ?? [writes[0], writes[0]];
    this.choose(first[0], first[1]);
  }

  get isBegun() {
    return Boolean(this.composer?.isBegun);
  }

  of(from, to) {
    return this.cells.filter((cell) => cell.cell === `${from}->${to}`);
  }

  cell(from, to, isLearned) {
    const cells = this.of(from, to), main = cells.find(({ metric }) => SHARES.test(metric)) ?? cells[0]; // what says itself how good it is
    const told = main ? [el("b", {}, figure(main)), el("span", { className: "small" }, `${main.task}: ${main.metric}`)]
      : [el("b", {}, "–"), el("span", { className: "small" }, isLearned ? t("notMeasured") : t("notLearned"))];
    return el("button", { type: "button", className: "cell", disabled: !isLearned, "data-cell": `${from}->${to}`, onclick: () => this.choose(from, to) }, told);
  }

  choose(from, to) {
    for (const each of this.table.querySelectorAll("[data-cell]")) each.setAttribute("aria-pressed", String(each.dataset.cell === `${from}->${to}`));
    const bubble = el("div", { className: "bubble wide", hidden: true }), facts = el("p", { className: "small soft" });
    const composer = this.composer = new Composer(this.modalities, async (content) => {
      bubble.hidden = false;
      const told = await answered({ model: this.served.id, messages: [{ role: "user", content }], modalities: [to] }, bubble);
      facts.textContent = took(told.facts);
    }, t("try"));
    const rows = this.of(from, to).map((cell) => el("tr", {}, el("td", {}, cell.task), el("td", {}, cell.split), el("td", {}, cell.metric),
      el("td", { className: "number" }, figure(cell)), el("td", { className: "number" }, cell.ci95 ? `${figure({ ...cell, value: cell.ci95[0] })} – ${figure({ ...cell, value: cell.ci95[1] })}` : ""),
      el("td", { className: "number" }, cell.baseline === null ? "" : figure({ ...cell, value: cell.baseline })), el("td", { className: "number" }, String(cell.n))));
    this.panel.replaceChildren(el("h2", {}, `${t(from)} → ${t(to)}`), composer.element, bubble, facts,
      rows.length ? el("div", { className: "scroll", tabIndex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, ["task", "split", "metric", "value", "interval", "baseline", "rows"].map((name, place) =>
        el("th", { scope: "col", className: place > 2 ? "number" : "" }, t(name))))), el("tbody", {}, rows))) : el("p", { className: "soft" }, t("notMeasured")));
  }
}
