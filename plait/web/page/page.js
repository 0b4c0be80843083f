// The page: something to draw on, to say and to write, and what the model makes of it.

import * as ort from "./vendor/ort.mjs";
import { Model } from "./model.js";
import { codec as text } from "./codecs/text.js";
import { codec as image } from "./codecs/image.js";
import { codec as audio, RATE } from "./codecs/audio.js";

const FOLDER = "model";
const VERBS = { text: "in words", image: "as a picture", audio: "as sound" };
const INK = 0.7, PEN = 22; // the share of a picture's side that a drawing fills; pixels
const MEDIA = ["image", "audio"];
const $ = (id) => document.getElementById(id);

ort.env.wasm.wasmPaths = { mjs: new URL("vendor/ort-wasm-simd-threaded.mjs", location.href).href, wasm: new URL("vendor/ort-wasm-simd-threaded.wasm", location.href).href };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1; // threads need COOP and COEP headers

const given = { image: null, audio: null };
let drawn = false, filed = false, model, asking = false, seed = 0; // filed: a file lies under what is drawn

const board = $("board"), pen = board.getContext("2d", { willReadFrequently: true });
const ground = () => ($("dark").checked ? "black" : "white");

function clear() {
  pen.fillStyle = ground();
  pen.fillRect(0, 0, board.width, board.height);
  [drawn, filed, given.image] = [false, false, null];
  $("picture").value = "";
}

let last = null; // where the pen was
function stroke(event) {
  if (!event.buttons) return;
  if (given.image) $("picture").value = "";
  given.image = null; // what is on the board now is asked about, the file with what was drawn over it
  const x = (event.offsetX * board.width) / board.clientWidth, y = (event.offsetY * board.height) / board.clientHeight;
  Object.assign(pen, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: $("dark").checked ? "white" : "black" });
  pen.beginPath();
  pen.moveTo(...(event.type === "pointerdown" || !last ? [x, y] : last));
  pen.lineTo(x + 0.01, y); // a point is a line, too
  pen.stroke();
  [last, drawn] = [[x, y], true];
}

/** What was drawn, as collections of handwriting have it: as large as the picture allows, with its centre of mass in the middle. */
function centred() {
  const { data, width, height } = pen.getImageData(0, 0, board.width, board.height);
  const light = $("dark").checked;
  let [left, top, right, bottom, mass, mx, my] = [width, height, 0, 0, 0, 0, 0];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const ink = light ? data[4 * (y * width + x)] : 255 - data[4 * (y * width + x)];
    if (ink < 64) continue;
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
    mass += ink; mx += ink * x; my += ink * y;
  }
  const scale = (INK * width) / Math.max(1, right - left, bottom - top);
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  context.fillStyle = ground();
  context.fillRect(0, 0, width, height);
  context.setTransform(scale, 0, 0, scale, width / 2 - (scale * mx) / mass, height / 2 - (scale * my) / mass);
  context.drawImage(board, left - PEN, top - PEN, right - left + 2 * PEN, bottom - top + 2 * PEN, left - PEN, top - PEN, right - left + 2 * PEN, bottom - top + 2 * PEN);
  return canvas;
}

function pictureGiven() {
  if (given.image) return given.image;
  if (!drawn) return null;
  return model.codecs.image.channels === 1 && !filed ? centred() : board;
}

function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const put = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  put(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); put(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  put(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

const shown = {
  text(words) {
    return Object.assign(document.createElement("p"), { className: "said", textContent: words });
  },
  image(picture) {
    const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
    if (picture instanceof ImageData) canvas.getContext("2d").putImageData(picture, 0, 0);
    else canvas.getContext("2d").drawImage(picture, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "A picture");
    return canvas;
  },
  audio(samples) {
    return Object.assign(document.createElement("audio"), { controls: true, src: URL.createObjectURL(wav(samples)) });
  },
};

async function samplesOf(file) {
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  const mixed = new OfflineAudioContext(1, decoded.length, RATE), source = mixed.createBufferSource();
  source.buffer = decoded;
  source.connect(mixed.destination);
  source.start();
  return (await mixed.startRendering()).getChannelData(0);
}

/** Give back the memory of the sounds in a place. */
function free(place) {
  place.querySelectorAll("audio").forEach((sound) => URL.revokeObjectURL(sound.src));
}

function hear(samples) {
  given.audio = samples;
  free($("heard"));
  $("heard").replaceChildren(...(samples ? [shown.audio(samples)] : []));
  $("forget").hidden = !samples;
  if (!samples) $("sound").value = "";
}

let recorder = null, opening = false;
async function record() {
  if (recorder) return recorder.state === "recording" && recorder.stop();
  if (!navigator.mediaDevices) throw new Error("a browser records on https and localhost alone: choose a file");
  if (opening) return;
  opening = true;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } finally {
    opening = false;
  }
  const pieces = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  recorder.onstop = async () => {
    recorder = null;
    stream.getTracks().forEach((track) => track.stop());
    $("record").textContent = "Record";
    $("record").classList.remove("recording");
    await guarded(async () => hear((await samplesOf(new Blob(pieces))).slice(0, model.codecs.audio.seconds * RATE)));
  };
  recorder.start();
  $("record").textContent = "Stop";
  $("record").classList.add("recording");
}

const say = (message) => { $("state").textContent = message; };

async function guarded(act) {
  try {
    return await act();
  } catch (error) {
    console.error(error);
    say(`It did not work: ${error.message}`);
  }
}

/** The parts of a question whose media are those that are here. */
function filled(parts) {
  return parts.map((part) => {
    if (part.type === "text") return { type: "text", value: part.text };
    const value = part.type === "image" ? pictureGiven() : given.audio;
    if (!value) throw new Error(part.type === "image" ? "draw something first, or choose a file" : "record something first, or choose a file");
    return { type: part.type, value };
  });
}

async function ask(parts, to) {
  if (asking) return;
  asking = true;
  $("go").disabled = true;
  say("Thinking…");
  await guarded(async () => {
    const asked = filled(parts);
    if (!asked.length) throw new Error("draw, say or write something first");
    const entry = document.createElement("li"), question = document.createElement("p"), answer = document.createElement("div");
    question.className = "row soft";
    question.append(...asked.map(({ type, value }) => (type === "text" ? value : shown[type](value))));
    entry.append(question, answer);
    $("answers").prepend(entry);
    const began = performance.now();
    const told = (answers) => { // all but the last part stay as they are
      while (answer.children.length >= Math.max(1, answers.length)) answer.lastChild.remove();
      answers.slice(answer.children.length).forEach(({ type, value }) => answer.append(shown[type](value)));
    };
    const answers = await model.answer(asked, { to: to || null, seed: seed++, told });
    const seconds = (performance.now() - began) / 1000;
    entry.append(Object.assign(document.createElement("p"), { className: "soft small", textContent: `${seconds.toFixed(2)} s` }));
    entry.querySelectorAll("audio").forEach((sound) => sound.play().catch(() => {}));
    if (!answers.length) answer.replaceChildren(shown.text("…"));
    say(ready());
    return answers;
  });
  asking = false;
  $("go").disabled = false;
}

const ready = () => `Ready, on ${ort.env.wasm.numThreads === 1 ? "one thread" : `${ort.env.wasm.numThreads} threads`}`;

function offer(prompts) {
  $("asked").hidden = !prompts.length;
  $("prompts").replaceChildren(...prompts.map(({ parts, to }) => {
    const words = parts.map((part) => (part.type === "text" ? part.text : `[${part.type === "image" ? "picture" : "sound"}]`)).join(" ");
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${words} → ${VERBS[to] ?? to}` });
    button.onclick = () => ask(parts, to);
    return button;
  }));
}

async function begin() {
  const manifest = await (await fetch(`${FOLDER}/page.json`)).json();
  model = await Model.open(FOLDER, ort, { text, image, audio }, (share) => { $("progress").value = share; });
  $("progress").hidden = true;
  for (const [name, codec] of Object.entries(model.codecs)) {
    if ($(name)) $(name).hidden = false;
    if (name in VERBS && !model.manifest.unlearned.includes(`flows.${name}`)) $("to").append(new Option(VERBS[name], name));
    if (name === "image") $("dark").checked = codec.channels === 1;
  }
  clear();
  offer(manifest.prompts);
  $("go").disabled = false;
  say(ready());
}

board.onpointerdown = (event) => { board.setPointerCapture(event.pointerId); stroke(event); };
board.onpointermove = stroke;
board.onpointerup = board.onpointercancel = () => { last = null; };
$("clear").onclick = $("dark").onchange = clear;
$("record").onclick = () => guarded(record);
$("forget").onclick = () => hear(null);
$("sound").onchange = () => guarded(async () => hear(await samplesOf($("sound").files[0])));
$("picture").onchange = () => guarded(async () => {
  const picture = await createImageBitmap($("picture").files[0]);
  clear();
  const scale = Math.min(board.width / picture.width, board.height / picture.height);
  pen.drawImage(picture, 0, 0, picture.width * scale, picture.height * scale);
  [filed, given.image] = [true, picture];
});
$("ask").onsubmit = (event) => {
  event.preventDefault();
  const media = MEDIA.filter((name) => (name === "image" ? given.image || drawn : given.audio));
  const words = $("words").value.trim();
  ask([...media.map((type) => ({ type })), ...(words ? [{ type: "text", text: words }] : [])], $("to").value);
};

globalThis.plait = { ask, get model() { return model; } }; // for the console of whoever wants to see inside
guarded(begin);
