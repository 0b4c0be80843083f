// What layers make of something, as the server views it (plait.explain.view): tables of layers by tokens.

import { el } from "./dom.js";
import { colour } from "./heat.js";
import { inWords, t } from "./words.js";

/** A cell, redder the larger its share; or a medium. */
function cell({ text, share, title, came, html }, name) {
  const element = el("td", { className: html ? "shown" : came ? "came" : "", title: name(title) }, text);
  if (html) element.innerHTML = html; // from our own renderers, which escape
  else element.style.background = colour(Math.max(0, share));
  return element;
}

const head = (scope, text, title = "") => el("th", { scope, title }, text);
const row = (layer, cells, name) => el("tr", {}, head("row", `${layer}`), cells.map((each) => cell(each, name)));

/** The elements of a view: its title, what it says, its tables. Names of groups of tokens are words; tokens are not. */
export function layersOf(view) {
  const { kind, figures, tables } = view;
  const title = inWords(`title ${kind}`, figures, view.title), name = kind === "patched" ? t : (text) => text;
  const table = ({ heads, layers, cells }) => el("div", { className: "lens", tabIndex: 0, role: "region", "aria-label": title }, el("table", {},
    el("thead", {}, el("tr", {}, head("col", t("layersColumn")), heads.map(([text, more]) => head("col", name(text), more)))),
    el("tbody", {}, layers.map((layer, number) => row(layer, cells[number], name)))));
  return [el("h3", {}, title), el("p", { className: "small soft", role: "status" }, inWords(`caption ${kind}`, figures, view.caption)), ...tables.map(table)];
}
