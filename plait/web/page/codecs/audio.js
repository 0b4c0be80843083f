// Sound: log-mel frames, as plait/modalities/audio/codec.py has them, and back by Griffin and Lim's method.

export const RATE = 16000;
const WINDOW = 1024, HOP = 160, MELS = 80, BINS = WINDOW / 2 + 1, FLOOR = 1e-5, LOUDEST = 6;
const LEVEL = 10 ** (-23 / 20), PEAK = 10 ** (-1 / 20);
const ROUNDS = 32, MOMENTUM = 0.99, UPDATES = 60;

const hann = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
const turns = Array.from({ length: WINDOW / 2 }, (_, i) => [Math.cos((2 * Math.PI * i) / WINDOW), -Math.sin((2 * Math.PI * i) / WINDOW)]);
const reversed = Uint16Array.from({ length: WINDOW }, (_, i) => {
  let bits = 0;
  for (let b = 1; b < WINDOW; b <<= 1) bits = (bits << 1) | (i & b ? 1 : 0);
  return bits;
});

/** The discrete Fourier transform of WINDOW complex numbers, in place (Cooley and Tukey). */
function fft(re, im) {
  for (let i = 0; i < WINDOW; i++) if (reversed[i] > i) {
    [re[i], re[reversed[i]]] = [re[reversed[i]], re[i]];
    [im[i], im[reversed[i]]] = [im[reversed[i]], im[i]];
  }
  for (let half = 1; half < WINDOW; half *= 2) {
    const step = WINDOW / (2 * half);
    for (let first = 0; first < WINDOW; first += 2 * half) for (let i = 0; i < half; i++) {
      const [c, s] = turns[i * step], a = first + i, b = a + half;
      const r = re[b] * c - im[b] * s, m = re[b] * s + im[b] * c;
      re[b] = re[a] - r; im[b] = im[a] - m; re[a] += r; im[a] += m;
    }
  }
}

/** For each band its first bin and the weights from there on: triangles on Slaney's scale. */
const filters = (() => {
  const mel = (hz) => (hz < 1000 ? (hz * 3) / 200 : 15 + (Math.log(hz / 1000) * 27) / Math.log(6.4));
  const hertz = (m) => (m < 15 ? (m * 200) / 3 : 1000 * Math.exp(((m - 15) * Math.log(6.4)) / 27));
  const edges = Array.from({ length: MELS + 2 }, (_, i) => hertz((mel(RATE / 2) * i) / (MELS + 1)));
  return Array.from({ length: MELS }, (_, band) => {
    const [low, middle, high] = edges.slice(band, band + 3);
    const weights = [];
    let first = -1;
    for (let bin = 0; bin < BINS; bin++) {
      const hz = (bin * RATE) / WINDOW, weight = Math.min((hz - low) / (middle - low), (high - hz) / (high - middle));
      if (weight <= 0) continue;
      if (first < 0) first = bin;
      weights.push((weight * 2) / (high - low));
    }
    return { first: Math.max(0, first), weights };
  });
})();

const toBands = (magnitude, out) => filters.forEach(({ first, weights }, band) => {
  out[band] = weights.reduce((sum, weight, i) => sum + weight * magnitude[first + i], 0);
});

const toBins = (bands, out) => {
  out.fill(0);
  filters.forEach(({ first, weights }, band) => weights.forEach((weight, i) => { out[first + i] += weight * bands[band]; }));
};

/** Samples -> frames of MELS logarithms, one every HOP samples. */
export function logMel(samples) {
  const count = 1 + Math.floor(samples.length / HOP), frames = new Float32Array(count * MELS);
  const re = new Float64Array(WINDOW), im = new Float64Array(WINDOW), magnitude = new Float64Array(BINS), bands = new Float64Array(MELS);
  for (let frame = 0; frame < count; frame++) {
    for (let i = 0; i < WINDOW; i++) re[i] = (samples[frame * HOP + i - WINDOW / 2] ?? 0) * hann[i];
    im.fill(0);
    fft(re, im);
    for (let bin = 0; bin < BINS; bin++) magnitude[bin] = Math.hypot(re[bin], im[bin]);
    toBands(magnitude, bands);
    bands.forEach((band, i) => { frames[frame * MELS + i] = Math.log(Math.max(band, FLOOR)); });
  }
  return frames;
}

/** Magnitudes that are not negative and whose bands come close to one frame's (Lee and Seung, 2001). */
function magnitudesOf(bands) {
  const magnitude = new Float64Array(BINS), aim = new Float64Array(BINS), have = new Float64Array(BINS), own = new Float64Array(MELS);
  toBins(bands, aim);
  magnitude.set(aim);
  for (let round = 0; round < UPDATES; round++) {
    toBands(magnitude, own);
    toBins(own, have);
    for (let bin = 0; bin < BINS; bin++) magnitude[bin] = Math.max(magnitude[bin], 1e-8) * (aim[bin] / Math.max(have[bin], 1e-8));
  }
  return magnitude;
}

/** Frames of MELS logarithms -> samples: fast Griffin-Lim (Perraudin, Balazs and Sondergaard, 2013). */
export function griffinLim(logs) {
  const count = logs.length / MELS, length = (count - 1) * HOP;
  if (length <= 0) return new Float32Array(0);
  const magnitude = Array.from({ length: count }, (_, f) => magnitudesOf(Float64Array.from(logs.subarray(f * MELS, (f + 1) * MELS), Math.exp)));
  let state = 1;
  const uniform = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32);
  const phases = magnitude.map((frame) => Float64Array.from(frame, () => 2 * Math.PI * uniform()));
  let re = magnitude.map((frame, f) => frame.map((m, i) => m * Math.cos(phases[f][i])));
  let im = magnitude.map((frame, f) => frame.map((m, i) => m * Math.sin(phases[f][i])));
  const before = { re: re.map((frame) => new Float64Array(frame.length)), im: im.map((frame) => new Float64Array(frame.length)) };
  const total = new Float64Array(length + WINDOW), weight = new Float64Array(length + WINDOW);
  for (let f = 0; f < count; f++) for (let i = 0; i < WINDOW; i++) weight[f * HOP + i] += hann[i] ** 2;
  const a = new Float64Array(WINDOW), b = new Float64Array(WINDOW);

  function synthesise() {
    total.fill(0);
    for (let f = 0; f < count; f++) {
      for (let i = 0; i < WINDOW; i++) { // the inverse by conjugates
        const bin = i < BINS ? i : WINDOW - i;
        a[i] = re[f][bin];
        b[i] = i < BINS ? -im[f][bin] : im[f][bin];
      }
      fft(a, b);
      for (let i = 0; i < WINDOW; i++) total[f * HOP + i] += (a[i] / WINDOW) * hann[i];
    }
    for (let i = 0; i < total.length; i++) total[i] = i < WINDOW / 2 || i >= length + WINDOW / 2 ? 0 : total[i] / weight[i];
  }

  for (let round = 0; round < ROUNDS; round++) {
    synthesise();
    for (let f = 0; f < count; f++) {
      for (let i = 0; i < WINDOW; i++) a[i] = total[f * HOP + i] * hann[i];
      b.fill(0);
      fft(a, b);
      for (let bin = 0; bin < BINS; bin++) {
        const r = a[bin] - (MOMENTUM / (1 + MOMENTUM)) * before.re[f][bin], m = b[bin] - (MOMENTUM / (1 + MOMENTUM)) * before.im[f][bin];
        const size = Math.hypot(r, m) || 1;
        re[f][bin] = (magnitude[f][bin] * r) / size;
        im[f][bin] = (magnitude[f][bin] * m) / size;
        before.re[f][bin] = a[bin];
        before.im[f][bin] = b[bin];
      }
    }
  }
  synthesise();
  return Float32Array.from(total.subarray(WINDOW / 2, WINDOW / 2 + length));
}

const peakOf = (samples) => samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);

/** Samples at the loudness that all clips have. */
function levelled(samples) {
  const loudness = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, samples.length));
  if (loudness < 1e-6) return samples;
  const gain = Math.min(LEVEL / loudness, PEAK / peakOf(samples));
  return samples.map((sample) => sample * gain);
}

export function codec({ frames, block, max_seconds: most, mean, std }) {
  const width = frames * MELS, longest = Math.max(1, Math.floor((most * RATE) / HOP / frames + 1e-6));
  const more = "<more>", open = "<open:audio>", last = (count) => `<last:${count}>`;
  const blockLength = (header) => (header.at(-1) === more ? block : Number(header.at(-1).slice(6, -1)));
  return {
    grammar: open, width, seconds: most,
    expects(header, blocks) {
      if (header.length && header.at(-1) !== open) return [];
      const room = longest - blocks * block;
      const lasts = Array.from({ length: Math.max(1, Math.min(room, block)) }, (_, i) => last(i + 1));
      return room <= block ? lasts : [more, ...lasts];
    },
    blockLength,
    ends: (header) => header.at(-1) !== more,
    coordinates: (header) => Float32Array.from({ length: blockLength(header) }, (_, i) => i),
    canonical: (tokens) => tokens,
    /** Float32 samples, mono, at RATE. */
    read(samples) {
      if (samples.length > most * RATE) throw new Error(`got ${(samples.length / RATE).toFixed(1)} s of sound; expected at most ${most} s`);
      const heard = logMel(levelled(samples)), count = Math.ceil(heard.length / width);
      const tokens = new Float32Array(count * width).fill(Math.log(FLOOR));
      tokens.set(heard);
      const normal = tokens.map((log, i) => (log - mean[i % MELS]) / std[i % MELS]);
      return Array.from({ length: Math.ceil(count / block) }, (_, number) => {
        const first = number * block, size = Math.min(block, count - first);
        const header = [...(number ? [] : [open]), first + block >= count ? last(size) : more];
        return { header, tokens: normal.slice(first * width, (first + size) * width) };
      });
    },
    write(blocks) {
      const logs = blocks.flatMap(({ tokens }) => Array.from(tokens, (value, i) => value * std[i % MELS] + mean[i % MELS]));
      const samples = griffinLim(Float32Array.from(logs, (log) => Math.min(LOUDEST, Math.max(Math.log(FLOOR), log))));
      const gain = Math.min(1, PEAK / Math.max(peakOf(samples), 1e-9));
      return samples.map((sample) => sample * gain);
    },
  };
}
