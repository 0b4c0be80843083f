// What layers make of something, as the server views it (plait.explain.view): tables of layers by tokens.

import { el } from "./dom.js";

const HOT = "217, 72, 15"; // as in heat.js

/** A cell, redder the larger its share; or a medium. */
function cell({ text, share, title, came, html }) {
  const element = el("td", { className: html ? "shown" : came ? "came" : "", title }, text);
  if (html) element.innerHTML = html; // from our own renderers, which escape
  else element.style.background = `rgba(${HOT}, ${(0.85 * Math.min(1, Math.max(0, share))).toFixed(3)})`;
  return element;
}

const row = (layer, cells) => el("tr", {}, el("th", {}, `${layer}`), cells.map(cell));

/** The elements of a view: its title, what it says, its tables. */
export const viewed = ({ title, caption, tables }) => [el("h3", {}, title), el("p", { className: "small soft" }, caption),
  ...tables.map(({ heads, layers, cells }) => el("div", { className: "lens" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "layers"), heads.map(([text, more]) => el("th", { title: more }, text)))),
    el("tbody", {}, layers.map((layer, number) => row(layer, cells[number]))))))];
