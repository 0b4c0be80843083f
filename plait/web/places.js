// Boxes on a picture: drawn with a pointer, moved and sized by keys. Corners are thousandths of the sides of what is shown.

import { el } from "./dom.js";
import { t } from "./words.js";

const SCALE = 1000, STEP = 10, LEAST = 5; // thousandths
const clamp = (value) => Math.min(SCALE, Math.max(0, Math.round(value)));

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export class Places {
  /** `picture`: an img; `labels`: what boxes may be; `boxes`: those that are there already; `changed` is called after each change. */
  constructor(picture, labels, boxes, changed) {
    Object.assign(this, { labels, changed, label: labels[0], chosen: -1 });
    this.boxes = boxes.map(({ label, box }) => ({ label, box: [...box] }));
    this.layer = svg("svg", { viewBox: `0 0 ${SCALE} ${SCALE}`, preserveAspectRatio: "none", role: "img", "aria-label": t("boxesOnPicture") });
    this.list = el("ul", { className: "boxes", "aria-label": t("boxes") });
    this.element = el("div", {}, el("div", { className: "places" }, picture, this.layer), this.list);
    this.layer.addEventListener("pointerdown", (event) => this.begin(event));
    this.layer.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) this.layer.addEventListener(name, () => this.end());
    this.draw();
  }

  get value() {
    return this.boxes.filter(({ box: [x1, y1, x2, y2] }) => x1 !== x2 && y1 !== y2).map(({ label, box: [x1, y1, x2, y2] }) => ({ label, box: [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)] }));
  }

  at({ clientX, clientY }) {
    const { left, top, width, height } = this.layer.getBoundingClientRect();
    return [clamp(((clientX - left) / width) * SCALE), clamp(((clientY - top) / height) * SCALE)];
  }

  begin(event) {
    event.preventDefault();
    this.layer.setPointerCapture(event.pointerId);
    const [x, y] = this.at(event);
    this.boxes.push({ label: this.label, box: [x, y, x, y] });
    this.chosen = this.boxes.length - 1;
    this.dragging = true;
    this.draw();
  }

  drag(event) {
    if (!this.dragging) return;
    const box = this.boxes[this.chosen].box;
    [box[2], box[3]] = this.at(event);
    this.draw();
  }

  end() {
    if (!this.dragging) return;
    this.dragging = false;
    const [x1, y1, x2, y2] = this.boxes[this.chosen].box;
    if (Math.abs(x2 - x1) < LEAST || Math.abs(y2 - y1) < LEAST) {
      // a click chooses the smallest box under it
      this.boxes.splice(this.chosen, 1);
      const under = this.value.map(({ box }, i) => [box, i]).filter(([box]) => box[0] <= x1 && x1 <= box[2] && box[1] <= y1 && y1 <= box[3]);
      under.sort(([a], [b]) => (a[2] - a[0]) * (a[3] - a[1]) - (b[2] - b[0]) * (b[3] - b[1]));
      this.chosen = under.length ? under[0][1] : -1;
    } else this.boxes = this.value;
    this.draw();
    this.changed();
  }

  /** Choose the label of the box that is chosen, and of the next. */
  use(label) {
    this.label = label;
    if (this.boxes[this.chosen]) this.boxes[this.chosen].label = label;
    this.draw();
    this.changed();
  }

  /** Whether a key means something here. */
  key(event) {
    const box = this.boxes[this.chosen]?.box;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "n") {
      this.boxes.push({ label: this.label, box: [400, 400, 600, 600] });
      this.chosen = this.boxes.length - 1;
    } else if (event.key === "b" && this.boxes.length) this.chosen = (this.chosen + 1) % this.boxes.length;
    else if ((event.key === "Delete" || event.key === "Backspace") && box) {
      this.boxes.splice(this.chosen, 1);
      this.chosen = Math.min(this.chosen, this.boxes.length - 1);
    } else if (arrow && box) {
      for (const corner of event.shiftKey ? [1] : [0, 1]) for (const axis of [0, 1]) box[2 * corner + axis] = clamp(box[2 * corner + axis] + STEP * arrow[axis]);
    } else return false;
    this.draw();
    this.changed();
    return true;
  }

  draw() {
    this.layer.replaceChildren(...this.boxes.map(({ box: [x1, y1, x2, y2] }, i) =>
      svg("rect", { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1), class: i === this.chosen ? "chosen" : "" })));
    this.list.replaceChildren(...this.boxes.map(({ label, box }, i) =>
      el("li", {}, el("button", { type: "button", "aria-pressed": String(i === this.chosen), onclick: () => { this.chosen = i; this.draw(); } }, `${label} [${box.join(", ")}]`))));
  }
}
