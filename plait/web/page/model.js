// A model of `plait export --to onnx`, run by onnxruntime-web: what plait/portable/player.py does, one request at a time.

const MARKS = { null: "<null>", end: "<end>", user: "<user>", assistant: "<assistant>" };
const SHARED = "shared";
const STEPS = 12, GUIDANCE = 3, MOST = 64, LOOP = 16; // where the recipe says nothing

const int64 = (numbers) => BigInt64Array.from(numbers, BigInt);


/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Numbers of a standard normal distribution from such numbers (Box and Muller). */
export function gaussian(chance) {
  return (count) => Float32Array.from({ length: count }, () =>
    Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance()));
}

/** A setting that may be told by modality. */
const of = (told, name, usual) => (typeof told === "object" && told !== null ? told[name] ?? usual : told ?? usual);

/** Whether the last ids are the same ones `repeats` times in a row, at least LOOP ids in all (plait/infer/decoder.py). */
export function goesRound(ids, repeats) {
  for (let unit = 1; repeats && unit <= Math.floor(ids.length / repeats); unit++) {
    const length = unit * Math.max(repeats, Math.ceil(LOOP / unit));
    if (length > ids.length) continue;
    const last = ids.slice(-length);
    if (last.slice(unit).every((id, i) => id === last[i])) return true;
  }
  return false;
}

/** What is kept of one sequence: keys and values [layers, heads, tokens, width], and the expert of each token. */
class Stream {
  constructor([layers, heads, width]) {
    [this.rows, this.width] = [layers * heads, width];
    this.shape = (tokens) => [layers, heads, tokens, width];
    this.keys = this.values = new Float32Array(0);
    this.experts = [];
    this.blocks = 0;
  }

  keep(keys, values, row) {
    const before = this.experts.length * this.width, added = row.experts.length * this.width;
    const behind = (kept, more) => {
      const all = new Float32Array(this.rows * (before + added));
      for (let r = 0; r < this.rows; r++) {
        all.set(kept.subarray(r * before, (r + 1) * before), r * (before + added));
        all.set(more.subarray(r * added, (r + 1) * added), r * (before + added) + before);
      }
      return all;
    };
    this.keys = behind(this.keys, keys);
    this.values = behind(this.values, values);
    this.experts.push(...row.experts);
    this.blocks = row.blocks.at(-1) + 1;
  }
}

export class Model {
  /** The model in a folder; `codecs`: how each modality becomes tokens, by name; `tell` hears of the share that is loaded. */
  static async open(folder, ort, codecs, tell = () => {}) {
    const answer = async (file) => {
      const response = await fetch(`${folder}/${file}`);
      if (!response.ok) throw new Error(`${file}: the server answers ${response.status}; expected a file of plait export`);
      return response;
    };
    const manifest = await (await answer("model.json")).json();
    const weights = await bytesOf(await answer("weights.bin"), tell);
    const sessions = {};
    for (const name of Object.keys(manifest.graphs)) {
      const graph = new Uint8Array(await (await answer(`${name}.onnx`)).arrayBuffer());
      const externalData = [{ path: "weights.bin", data: weights }];
      sessions[name] = await ort.InferenceSession.create(graph, { externalData, executionProviders: ["wasm"] });
    }
    const model = new Model(ort, manifest, sessions);
    for (const [name, settings] of Object.entries(manifest.modalities)) model.codecs[name] = await codecs[name](settings, manifest);
    return model;
  }

  constructor(ort, manifest, sessions) {
    Object.assign(this, { ort, manifest, sessions, codecs: {} });
    this.ids = Object.fromEntries(manifest.names.map((name, id) => [name, id]));
  }

  /** What a graph makes of typed arrays, each with its shape: the first output, or all. */
  async run(graph, inputs) {
    const tensors = Object.fromEntries(Object.entries(inputs).map(([name, [data, shape]]) =>
      [name, new this.ort.Tensor(data instanceof BigInt64Array ? "int64" : "float32", data, shape)]));
    const session = this.sessions[graph];
    const outputs = await session.run(tensors);
    return session.outputNames.map((name) => outputs[name]);
  }

  /**
   * One answer to parts {type, value}: its own parts, as they come in `told` too. `to`: the modality of the answer; without one
   * the model chooses. `chance()`: numbers from 0 to 1 that ids are drawn by, where the temperature is above 0; `noise(count)`: numbers
   * that blocks are drawn from.
   */
  async answer(parts, { to = null, seed = 0, steps, guidance, most, chance = uniform(seed), noise = gaussian(chance), told = () => {} } = {}) {
    const { sampling, end } = this.manifest;
    const turn = {
      main: new Stream(this.manifest.kept), null: new Stream(this.manifest.kept), unfed: this.prompt(parts), unfedNull: [], drawn: 0, to, chance, noise,
      steps: steps ?? sampling.steps, guidance: guidance ?? sampling.guidance, most: most ?? sampling.max_tokens ?? MOST,
      temperature: sampling.temperature ?? 0, repeats: sampling.repeats ?? 0,
    };
    const openers = Object.entries(this.codecs).filter(([name, codec]) => codec.grammar && !this.manifest.unlearned.includes(`flows.${name}`));
    const answers = [];
    while (turn.drawn < turn.most) {
      const legal = this.legal(to, openers);
      const id = legal.length === 1 ? legal[0] : await this.choose(turn, legal);
      if (id === end) break;
      const opened = openers.find(([, codec]) => this.ids[codec.grammar] === id);
      if (opened) {
        const blocks = await this.segment(turn, ...opened);
        answers.push({ type: opened[0], blocks, value: await opened[1].write(blocks) });
        told(answers);
        if (to) break;
        continue;
      }
      const [name, offset] = Object.entries(this.manifest.offsets).filter(([, first]) => first <= id).at(-1);
      turn.unfed.push({ ids: [id], expert: this.manifest.experts[SHARED] });
      turn.drawn += 1;
      if (answers.at(-1)?.type !== name) answers.push({ type: name, ids: [], value: "" });
      const words = answers.at(-1);
      words.ids.push(id - offset);
      words.value = this.codecs[name].write(words.ids);
      told(answers);
      if (goesRound(words.ids, turn.repeats)) break;
    }
    return answers;
  }

  /** Elements of a user's message up to where the answer begins. */
  prompt(parts) {
    const expert = this.manifest.experts[SHARED];
    const elements = [{ ids: [this.ids[MARKS.user]], expert }];
    for (const { type, value } of parts) {
      const codec = this.codecs[type];
      if (!codec) throw new Error(`this model reads ${Object.keys(this.codecs).join(", ")}; got ${type}`);
      if (!codec.grammar) {
        const ids = codec.read(value).map((id) => id + this.manifest.offsets[type]);
        if (ids.length) elements.push({ ids, expert });
        continue;
      }
      const given = this.manifest.experts[`${type}_given`];
      for (const { header, tokens } of codec.read(value)) {
        elements.push({ ids: header.map((name) => this.ids[name]), expert: given });
        elements.push(this.block(type, header, tokens, 1, given));
      }
    }
    return [...elements, { ids: [this.ids[MARKS.assistant]], expert }];
  }

  block(name, header, tokens, time, expert) {
    return { name, tokens, coordinates: this.codecs[name].coordinates(header), time, expert };
  }

  legal(to, openers) {
    const ids = openers.filter(([name]) => to === null || to === name).map(([, codec]) => this.ids[codec.grammar]);
    if (to !== null && ids.length) return ids;
    const words = Object.entries(this.manifest.offsets).filter(([name]) => to === null || to === name);
    return [this.manifest.end, ...ids, ...words.flatMap(([name, first]) => Array.from({ length: this.codecs[name].size }, (_, i) => first + i))];
  }

  /** One of the legal ids, once all that was said is fed: the likeliest, or with a temperature one that is drawn. */
  async choose(turn, legal) {
    const [hidden, width] = await this.feed(turn);
    const [{ data }] = await this.run("logits", { hidden: [hidden.subarray(-width), [1, width]] });
    const best = legal.reduce((likeliest, id) => (data[id] > data[likeliest] ? id : likeliest), legal[0]);
    if (turn.temperature <= 0) return best;
    const weights = legal.map((id) => Math.exp((data[id] - data[best]) / turn.temperature));
    let left = turn.chance() * weights.reduce((sum, weight) => sum + weight, 0);
    return legal.find((_, i) => (left -= weights[i]) < 0) ?? best;
  }

  /** Feed what both streams have not seen; the main one's hidden states. */
  async feed(turn) {
    if (turn.unfedNull.length) await this.take(turn.null, turn.unfedNull.splice(0), true);
    return this.take(turn.main, turn.unfed.splice(0), true);
  }

  async take(stream, elements, keep) {
    const row = { blocks: [], experts: [], ids: [] };
    const flows = [];
    let block = stream.blocks;
    for (const element of elements) {
      if (element.ids) {
        for (const id of element.ids) { row.ids.push(id); row.blocks.push(block++); row.experts.push(element.expert); }
        continue;
      }
      const count = element.tokens.length / this.codecs[element.name].width;
      flows.push([row.ids.length, count, element]);
      for (let i = 0; i < count; i++) { row.ids.push(0); row.blocks.push(block); row.experts.push(element.expert); }
      block += 1;
    }
    const n = row.ids.length, kept = stream.experts.length;
    const [embedded] = await this.run("embed", { ids: [int64(row.ids), [n]] });
    const vectors = embedded.data, width = embedded.dims[1];
    for (const [first, count, { name, tokens, coordinates, time }] of flows) {
      const [of] = await this.run(`embed_${name}`, {
        tokens: [tokens, [count, tokens.length / count]], coordinates: [coordinates, [count, coordinates.length / count]],
        time: [new Float32Array(count).fill(time), [count]],
      });
      vectors.set(of.data, first * width);
    }
    const [hidden, keys, values] = await this.run("step", {
      vectors: [vectors, [n, width]], position: [int64(row.ids.map((_, i) => kept + i)), [n]], block: [int64(row.blocks), [n]],
      expert: [int64(row.experts), [n]], keys: [stream.keys, stream.shape(kept)], values: [stream.values, stream.shape(kept)],
      kept_experts: [int64(stream.experts), [kept]],
    });
    if (keep) stream.keep(keys.data, values.data, row);
    return [hidden.data, width];
  }

  /** The blocks of one segment: headers that the model chooses, tokens that it draws from noise. */
  async segment(turn, name, codec) {
    const expert = this.manifest.experts[`${name}_written`], guided = of(turn.guidance, name, GUIDANCE) !== 1;
    const blocks = [];
    if (guided) {
      turn.null = new Stream(this.manifest.kept);
      turn.unfedNull = [{ ids: [this.ids[MARKS.null]], expert: this.manifest.experts[SHARED] }];
    }
    const say = (element) => { turn.unfed.push(element); if (guided) turn.unfedNull.push(element); };
    for (;;) {
      const header = blocks.length ? [] : [codec.grammar];
      if (header.length) say({ ids: [this.ids[codec.grammar]], expert });
      for (let names; (names = codec.expects(header, blocks.length)).length;) {
        const id = names.length === 1 ? this.ids[names[0]] : await this.choose(turn, names.map((each) => this.ids[each]));
        header.push(this.manifest.names[id]);
        say({ ids: [id], expert });
      }
      await this.feed(turn);
      const count = codec.blockLength(header);
      turn.drawn += count;
      const tokens = codec.canonical(await this.draw(turn, name, header, turn.noise(count * codec.width), expert, guided));
      blocks.push({ header, tokens });
      const last = codec.ends(header) || turn.drawn >= turn.most;
      if (!last || turn.to === null) say(this.block(name, header, tokens, 1, expert)); // what follows reads it, too
      if (last) return blocks;
    }
  }

  /** Clean tokens of a block, from noise by Euler's method. */
  async draw(turn, name, header, noise, expert, guided) {
    const times = this.manifest.times[name][of(turn.steps, name, STEPS) - 1], guidance = of(turn.guidance, name, GUIDANCE);
    let z = noise;
    for (let step = 0; step + 1 < times.length; step++) {
      const t = times[step], share = (times[step + 1] - t) / (1 - t);
      const main = await this.clean(turn.main, name, header, z, t, expert);
      const nothing = guided ? await this.clean(turn.null, name, header, z, t, expert) : main;
      z = z.map((value, i) => value + share * (nothing[i] + guidance * (main[i] - nothing[i]) - value));
    }
    return z;
  }

  async clean(stream, name, header, z, time, expert) {
    const block = this.block(name, header, z, time, expert), count = z.length / this.codecs[name].width;
    const [hidden, width] = await this.take(stream, [block], false);
    const [clean] = await this.run(`clean_${name}`, {
      hidden: [hidden, [count, width]], noised: [z, [count, z.length / count]], coordinates: [block.coordinates, [count, block.coordinates.length / count]],
      time: [new Float32Array(count).fill(time), [count]],
    });
    return clean.data;
  }
}

async function bytesOf(response, tell) {
  const total = Number(response.headers.get("content-length")) || 0, pieces = [];
  let loaded = 0;
  for (const reader = response.body.getReader();;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    loaded += value.length;
    if (total) tell(loaded / total);
  }
  const all = new Uint8Array(loaded);
  pieces.reduce((at, piece) => (all.set(piece, at), at + piece.length), 0);
  return all;
}
