// Pictures: patches of pixels, as plait/modalities/image/codec.py has them.

const MOST_SIDE = 64; // patches

export function codec({ patch, channels, max_patches: most, mean, std }) {
  const longest = Math.min(most, MOST_SIDE), width = patch * patch * channels;
  const shape = (header) => header.slice(1).map((name) => Number(name.slice(6, -1)));
  const level = (byte) => (byte / 127.5 - 1 - mean) / std;
  const byte = (token) => Math.round((Math.min(1, Math.max(-1, token * std + mean)) + 1) * 127.5);

  const whole = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // a half to the even neighbour, as Python does

  function grid(wide, high) {
    for (let scale = 1; ;) {
      const rows = Math.max(1, whole((high * scale) / patch)), cols = Math.max(1, whole((wide * scale) / patch));
      if (rows * cols <= most && Math.max(rows, cols) <= longest) return [rows, cols];
      if (Math.min(rows, cols) === 1) return [Math.min(rows, longest), Math.min(cols, longest)];
      scale *= 0.99 * Math.min(1, Math.sqrt(most / (rows * cols)));
    }
  }

  /** Calls for every number of every pixel with its place in the tokens and in an ImageData. */
  function eachPlace(rows, cols, call) {
    for (let y = 0; y < rows * patch; y++) for (let x = 0; x < cols * patch; x++) {
      const token = Math.floor(y / patch) * cols + Math.floor(x / patch);
      const inside = (y % patch) * patch + (x % patch);
      call(token * width + inside * channels, 4 * (y * cols * patch + x));
    }
  }

  return {
    grammar: "<open:image>", width, channels,
    expects(header) {
      if (header.length === 1) return Array.from({ length: longest }, (_, i) => `<rows:${i + 1}>`);
      if (header.length > 2) return [];
      return Array.from({ length: Math.min(longest, Math.floor(most / shape(header)[0])) }, (_, i) => `<cols:${i + 1}>`);
    },
    blockLength: (header) => shape(header)[0] * shape(header)[1],
    ends: () => true,
    coordinates(header) {
      const [rows, cols] = shape(header);
      return Float32Array.from({ length: 2 * rows * cols }, (_, i) => (i % 2 ? (i >> 1) % cols : Math.floor((i >> 1) / cols)));
    },
    canonical: (tokens) => tokens.map((token) => level(byte(token))),
    /** A canvas, or anything else that can be drawn onto one and has a width and a height. */
    read(picture) {
      const [rows, cols] = grid(picture.width, picture.height);
      const canvas = new OffscreenCanvas(cols * patch, rows * patch), context = canvas.getContext("2d");
      context.fillStyle = "white";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      const tokens = new Float32Array(rows * cols * width);
      eachPlace(rows, cols, (to, from) => {
        if (channels === 3) for (let c = 0; c < 3; c++) tokens[to + c] = level(data[from + c]);
        else tokens[to] = level(Math.trunc((data[from] * 19595 + data[from + 1] * 38470 + data[from + 2] * 7471 + 0x8000) / 65536));
      });
      return [{ header: ["<open:image>", `<rows:${rows}>`, `<cols:${cols}>`], tokens }];
    },
    write([{ header, tokens }]) {
      const [rows, cols] = shape(header);
      const picture = new ImageData(cols * patch, rows * patch);
      eachPlace(rows, cols, (from, to) => {
        for (let c = 0; c < 3; c++) picture.data[to + c] = byte(tokens[from + (channels === 3 ? c : 0)]);
        picture.data[to + 3] = 255;
      });
      return picture;
    },
  };
}
