// Heat over what a question gave: an explanation (plait.explain.page) drawn on its parts, and in words beside them.

const HOT = "217, 72, 15", COLD = "31, 95, 201"; // for the target, against it
const HEAT = 0.55; // of the strongest: words over it stay legible, in the light and in the dark

/** An element with properties and children. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A colour for a share from -1 to 1. */
export const colour = (share) => `rgba(${share < 0 ? COLD : HOT}, ${(HEAT * Math.min(1, Math.abs(share))).toFixed(3)})`;
const percent = (share) => `${share > 0 ? "+" : ""}${(100 * share).toFixed(0)} %`;

/** Where a region lies over its picture, in shares: [left, top, width, height]. `length`: seconds in all. */
function place(region, length) {
  if (region.box) return [region.box[0], region.box[1], region.box[2] - region.box[0], region.box[3] - region.box[1]];
  if (region.seconds) return [region.seconds[0] / length, 0, (region.seconds[1] - region.seconds[0]) / length, 1];
  return null;
}

export class Heat {
  /** `explanations`: of one answer, by several methods. `hide(units)`, if given, asks for the answer without some units;
   * `sentence(outcome, figures, otherwise)` says in another language what deletion and insertion came to. */
  constructor(element, explanations, { words = {}, hide, sentence = (_outcome, _figures, otherwise) => otherwise } = {}) {
    Object.assign(this, { element, explanations, words, hide, sentence, method: 0, target: 0, hidden: new Set() });
    this.draw();
  }

  get told() { return this.explanations[this.method]; }
  get map() { return this.told.maps[this.target] ?? this.told.maps[0]; }
  say(key, otherwise) { return this.words[key] ?? otherwise; }

  draw() {
    const { map, told } = this;
    const total = map.values.reduce((sum, value) => sum + Math.abs(value), 0) || 1, most = Math.max(...map.values.map(Math.abs)) || 1;
    this.shares = map.values.map((value) => value / total);
    this.strengths = map.values.map((value) => value / most);
    const methods = make("select", { "aria-label": this.say("method", "Method"), "data-methods": "" }, ...this.explanations.map(({ method }, number) => make("option", { value: number }, method)));
    methods.value = this.method;
    methods.addEventListener("change", () => { this.method = Number(methods.value); this.redraw("[data-methods]"); });
    const last = told.messages.length - 1;
    this.element.replaceChildren(
      make("div", { class: "heat-top" }, methods),
      ...told.messages.map((message, number) => this.message(message, number, number === last)),
      this.verdict(map));
  }

  /** Draw anew; what was pressed keeps the focus. */
  redraw(selector) {
    this.draw();
    this.element.querySelector(selector)?.focus();
  }

  message(message, number, isAnswer) {
    return make("div", { class: `heat-message ${message.role}` }, make("span", { class: "heat-role" }, this.say(message.role, message.role)),
      ...message.parts.map((part, index) => this.part(part, number, index, isAnswer)));
  }

  part(part, message, index, isAnswer) {
    const holder = make("div", { class: "heat-part", "data-part": `${message}.${index}` });
    const units = this.told.units.map((unit, number) => ({ ...unit, number })).filter((unit) => unit.message === message && unit.part === index);
    const same = (region) => units.find((unit) => JSON.stringify(unit.region) === JSON.stringify(region));
    const targets = isAnswer ? this.told.maps.map((map, number) => ({ ...map, number })).filter((map) => map.target.part === index && Object.keys(map.region).length) : [];
    if (part.html === undefined) {
      const words = make("p", { class: "heat-words", dir: "auto" });
      const pieces = (targets.length ? targets : units).filter(({ region }) => region.characters).map((each) => ({ ...each, at: each.region.characters }))
        .sort((a, b) => a.at[0] - b.at[0]);
      let done = 0;
      const characters = [...(part.text ?? "")]; // Python counts characters, not UTF-16
      for (const piece of pieces) {
        if (piece.at[0] < done) continue;
        words.append(characters.slice(done, piece.at[0]).join(""));
        const text = characters.slice(piece.at[0], piece.at[1]).join("");
        words.append(targets.length ? this.choice(piece, text, same(piece.region)) : this.unit(piece, text));
        done = piece.at[1];
      }
      words.append(characters.slice(done).join(""));
      holder.append(words);
      return holder;
    }
    const view = make("div", { class: "heat-view" });
    view.innerHTML = part.html; // from our own renderers, which escape
    const picture = view.querySelector("img");
    if (picture) {
      const frame = make("span", { class: "heat-frame" }), length = Math.max(...[...units, ...targets].map(({ region }) => region.seconds?.[1] ?? 0), 1e-9);
      picture.replaceWith(frame);
      frame.append(picture);
      ["width", "height"].forEach((side) => picture.removeAttribute(side));
      if ([...units, ...targets].some(({ region }) => region.seconds)) {
        frame.style.width = `${Math.max(12, 12 * length)}rem`;
        Object.assign(picture.style, { height: "7rem", width: "100%" });
      }
      for (const each of targets.length ? targets : units) {
        const at = place(each.region, length);
        if (!at) continue;
        const cover = targets.length ? this.choice(each, "", same(each.region)) : this.unit(each, "");
        cover.classList.add("heat-cover");
        ["left", "top", "width", "height"].forEach((side, axis) => { cover.style[side] = `${100 * at[axis]}%`; });
        frame.append(cover);
      }
    }
    holder.append(view);
    return holder;
  }

  unit(unit, text) {
    const isHidden = this.hidden.has(unit.number);
    const mark = make(this.hide ? "button" : "span", { class: `heat-unit${isHidden ? " heat-hidden" : ""}`, title: percent(this.shares[unit.number]), "data-unit": unit.number }, text);
    if (!isHidden) mark.style.background = colour(this.strengths[unit.number]);
    if (this.hide) {
      mark.type = "button";
      mark.setAttribute("aria-pressed", String(isHidden));
      mark.addEventListener("click", () => { isHidden ? this.hidden.delete(unit.number) : this.hidden.add(unit.number); this.redraw(`[data-unit="${unit.number}"]`); this.hide([...this.hidden].sort((a, b) => a - b)); });
    }
    return mark;
  }

  choice(map, text, unit) {
    const title = unit ? percent(this.shares[unit.number]) : undefined;
    const button = make("button", { type: "button", class: "heat-choice", title, "data-target": map.number, "aria-pressed": String(map.number === this.target), "aria-label": text || `${map.number + 1}` }, text);
    if (unit) button.style.background = colour(this.strengths[unit.number]);
    button.addEventListener("click", () => { this.target = map.number; this.redraw(`[data-target="${map.number}"]`); });
    return button;
  }

  verdict({ verdict, outcome, figures, sentence }) {
    const { units, counts, full, empty, deletion, insertion } = verdict.curves;
    const box = make("div", { class: `heat-verdict${verdict.is_faithful ? "" : " heat-doubt"}` }, make("p", {}, this.sentence(outcome, figures, sentence)));
    const line = (values, begin, end) => {
      const points = [[0, begin], ...counts.map((count, step) => [count / units, values[step]]), [1, end]];
      return points.map(([x, y]) => `${(10 + 180 * x).toFixed(1)},${(90 - 70 * y).toFixed(1)}`).join(" ");
    };
    const svg = `<svg viewBox="0 0 200 110" role="img" aria-label="${this.say("curves", "deletion and insertion")}"><path d="M10 20h180M10 90h180" class="heat-axis"/>`
      + `<polyline class="heat-deletion" points="${line(deletion, full, empty)}"/><polyline class="heat-insertion" points="${line(insertion, empty, full)}"/></svg>`;
    const plot = make("figure", {});
    plot.innerHTML = svg;
    plot.append(make("figcaption", {}, make("span", { class: "heat-deletion" }, this.say("deletion", "hidden, the most important first")), " ", make("span", { class: "heat-insertion" }, this.say("insertion", "shown, the most important first"))));
    box.append(plot);
    return box;
  }
}
