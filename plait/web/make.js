// Ways to make something for a prompt: write, draw, photograph, record. Each is an element and a `value`: {words} or {data}, or null before there is one.

import { el } from "./dom.js";
import { joined, wav } from "./media.js";
import { t } from "./words.js";

const RATE = 16000; // Hz
const SIDE = 512; // pixels of a drawing
const CLIPPED = 0.99, QUIET = 0.02, SHORTEST = 0.3, LONGEST = 30; // of the range; seconds

const asUrl = (blob) => new Promise((done, refuse) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => refuse(reader.error);
  reader.readAsDataURL(blob);
});

class Writing {
  constructor() {
    this.text = el("textarea", { "aria-label": t("yourText"), dir: "auto" });
    this.element = this.text;
  }

  get isBegun() {
    return Boolean(this.text.value);
  }

  async value() {
    return this.text.value.trim() ? { words: this.text.value } : null;
  }
}

class Drawing {
  constructor() {
    this.canvas = el("canvas", { width: SIDE, height: SIDE, className: "drawing", "aria-label": t("drawHere") });
    this.pen = this.canvas.getContext("2d");
    this.strokes = [];
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.strokes.push([this.at(event)]);
      this.draw();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.canvas.hasPointerCapture(event.pointerId)) return;
      this.strokes.at(-1).push(this.at(event));
      this.draw();
    });
    const back = () => { this.strokes.pop(); this.draw(); };
    const clear = () => { this.strokes = []; this.draw(); };
    this.element = el("div", { className: "item" }, this.canvas, el("p", { className: "row" }, el("button", { type: "button", onclick: back }, t("undo")), el("button", { type: "button", onclick: clear }, t("clear"))));
    this.draw();
  }

  get isBegun() {
    return this.strokes.length > 0;
  }

  at({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * SIDE, ((clientY - top) / height) * SIDE];
  }

  draw() {
    const { pen } = this;
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, SIDE, SIDE);
    Object.assign(pen, { lineWidth: 14, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
    for (const points of this.strokes) {
      pen.beginPath();
      points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      if (points.length === 1) pen.lineTo(points[0][0] + 0.1, points[0][1]);
      pen.stroke();
    }
  }

  async value() {
    return this.strokes.length ? { data: await asUrl(await new Promise((done) => this.canvas.toBlob(done, "image/png"))) } : null;
  }
}

class Choosing {
  constructor(accept, capture) {
    this.input = el("input", { type: "file", accept, capture, "aria-label": t("chooseFile") });
    this.shown = el("div");
    this.input.addEventListener("change", () => {
      const [file] = this.input.files;
      if (!file) return this.shown.replaceChildren();
      const src = URL.createObjectURL(file);
      this.shown.replaceChildren(file.type.startsWith("image/") ? el("img", { src, alt: t("picture") }) : el("audio", { src, controls: true }));
    });
    this.element = el("div", { className: "item" }, this.input, this.shown);
  }

  get isBegun() {
    return this.input.files.length > 0;
  }

  async value() {
    const [file] = this.input.files;
    return file ? { data: await asUrl(file) } : null;
  }
}

class Recording {
  constructor() {
    this.pieces = null;
    this.level = el("meter", { min: 0, max: 1, low: QUIET, high: CLIPPED, optimum: 0.3, value: 0, "aria-label": t("level") });
    this.told = el("p", { className: "small", role: "status" });
    this.button = el("button", { type: "button", className: "primary", onclick: () => (this.context ? this.stop() : this.start()) }, t("record"));
    this.playback = el("div");
    this.element = el("div", { className: "item" }, el("p", { className: "row" }, this.button, this.level), this.told, this.playback);
  }

  async start() {
    if (this.isStarting) return;
    this.isStarting = true;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
      this.context = new AudioContext({ sampleRate: RATE });
      await this.context.audioWorklet.addModule("/web/recorder.js");
    } catch (error) {
      this.told.textContent = t("noMicrophone") + error.message;
      this.letGo();
      return;
    } finally {
      this.isStarting = false;
    }
    if (this.isClosed) return this.letGo(); // the page went on while the person was asked
    const node = new AudioWorkletNode(this.context, "recorder");
    this.pieces = [];
    this.isOver = false;
    this.peak = this.clipped = 0;
    node.port.onmessage = ({ data }) => this.hear(data);
    this.context.createMediaStreamSource(this.stream).connect(node);
    this.button.textContent = t("recording");
  }

  /** Take a piece of sound; say at once what is wrong with it. */
  hear(piece) {
    if (this.isOver) return;
    this.pieces.push(piece);
    const peak = piece.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.level.value = peak;
    this.peak = Math.max(this.peak, peak);
    this.clipped += piece.filter((sample) => Math.abs(sample) >= CLIPPED).length;
    this.tell();
    if (this.seconds >= LONGEST - 0.2) this.stop();
  }

  get seconds() {
    return this.pieces.reduce((sum, { length }) => sum + length, 0) / RATE;
  }

  tell() {
    const wrong = this.clipped > this.seconds * RATE * 1e-3 ? t("tooLoud") : this.seconds > 1 && this.peak < QUIET ? t("tooQuiet") : this.seconds < SHORTEST ? t("tooShort") : "";
    this.told.textContent = `${this.seconds.toFixed(1)} ${t("seconds")}${wrong && ` · ${wrong}`}`;
  }

  async stop() {
    if (this.isOver) return;
    this.isOver = true;
    this.letGo();
    this.button.textContent = t("recordAgain");
    this.blob = new Blob([wav(joined(this.pieces), RATE)], { type: "audio/wav" });
    this.playback.replaceChildren(el("audio", { src: URL.createObjectURL(this.blob), controls: true }));
    this.tell();
  }

  /** Turn the microphone off. */
  letGo() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.context?.close();
    this.stream = this.context = null;
  }

  /** The page goes on to something else. */
  close() {
    this.isClosed = this.isOver = true;
    this.letGo();
  }

  get isBegun() {
    return Boolean(this.context || this.blob);
  }

  async value() {
    if (this.context) await this.stop();
    return this.blob ? { data: await asUrl(this.blob) } : null;
  }
}

/** What makes something for a prompt. `isBegun`: whether there is something that would be lost; `close`, if any: nothing more is made. */
export function making({ type, how }) {
  if (type === "text") return new Writing();
  if (type === "audio" && how !== "upload") return new Recording();
  if (type === "image" && (how === "draw" || !how)) return new Drawing();
  return new Choosing(["image", "audio", "video"].includes(type) ? `${type}/*` : "", how === "photograph" ? "environment" : undefined);
}
