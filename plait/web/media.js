// Media as content parts of the API, and as elements of the page. Only the API's own two shapes are known by name; any other
// modality goes by what /modalities tells of it.

import { el } from "./dom.js";
import { t } from "./words.js";

const RATE = 16000; // Hz of recordings
const STREAM_RATE = 24000; // Hz of streamed samples
const SHOWN = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"]; // what every browser shows, if it is whole

const asBase64 = (buffer) => {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
};

const asBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The content part of a file, by its suffix; throws where no modality reads it. */
export async function partOf(file, modalities) {
  const suffix = (file.name.match(/\.[^.]+$/) ?? [""])[0].toLowerCase();
  const kind = modalities.find((each) => each.files.includes(suffix)) ?? modalities.find((each) => file.type.startsWith(`${each.name}/`));
  if (!kind) throw new Error(t("notRead") + (suffix || file.type || file.name));
  if (SHOWN.includes(file.type)) await createImageBitmap(file).then((picture) => picture.close(), () => { throw new Error(`${file.name}: ${t("brokenPicture")}`); });
  return partOfBytes(kind, await file.arrayBuffer(), suffix.slice(1), file.type);
}

function partOfBytes(kind, buffer, format, type) {
  const data = asBase64(buffer);
  if (kind.name === "image") return { type: "image_url", image_url: { url: `data:${type || `image/${format}`};base64,${data}` } };
  if (kind.name === "audio") return { type: "input_audio", input_audio: { data, format: format || "wav" } };
  return { type: kind.name, [kind.name]: { data, format } };
}

const MEDIA_TYPES = { mp3: "mpeg", opus: "ogg", oga: "ogg" };

/** An element that shows a content part. */
export function shown(part, drawn = false) {
  if (part.type === "text") return el("p", {}, part.text);
  if (part.type === "image_url") return el("img", { src: part.image_url.url, alt: t("picture"), className: drawn ? "drawn" : "" });
  if (part.type === "input_audio") {
    const { data, format } = part.input_audio;
    return el("audio", { controls: true, src: `data:audio/${MEDIA_TYPES[format] ?? format};base64,${data}` });
  }
  const held = part[part.type];
  const url = `data:application/octet-stream;base64,${held.data}`;
  return el("a", { href: url, download: `${part.type}.${held.format ?? "bin"}` }, t(part.type));
}

/** Pieces of samples as one. */
export function joined(pieces) {
  const samples = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
  return samples;
}

/** Samples as a WAV file of 16 bits. */
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const put = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  put(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); put(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  put(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return view.buffer;
}

/** Records the microphone; `stop` gives the content part. */
export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true } });
  const off = () => stream.getTracks().forEach((track) => track.stop());
  const pieces = [];
  let context;
  try {
    context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule("/web/recorder.js");
    const node = new AudioWorkletNode(context, "recorder");
    node.port.onmessage = ({ data }) => pieces.push(data);
    context.createMediaStreamSource(stream).connect(node);
  } catch (error) {
    off();
    throw error;
  }
  return {
    async stop() {
      off();
      await context.close();
      return partOfBytes({ name: "audio" }, wav(joined(pieces), RATE), "wav", "audio/wav");
    },
  };
}

/** Plays pieces of 16-bit samples one after the other as they come, and joins them to one part. */
export class Sounding {
  constructor() {
    this.pieces = [];
    this.context = null;
    this.until = 0;
  }

  add(base64) {
    const samples = Float32Array.from(new Int16Array(asBytes(base64).buffer), (sample) => sample / 32768);
    this.pieces.push(samples);
    if (!samples.length) return;
    this.context ??= new AudioContext();
    const buffer = this.context.createBuffer(1, samples.length, STREAM_RATE);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.until = Math.max(this.until, this.context.currentTime + 0.03);
    source.start(this.until);
    this.until += buffer.duration;
  }

  stop() {
    this.context?.close();
    this.context = null;
  }

  part() {
    return partOfBytes({ name: "audio" }, wav(joined(this.pieces), STREAM_RATE), "wav", "audio/wav");
  }
}
