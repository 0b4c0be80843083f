// Elements without markup in strings: what people write is text, never HTML.

/** An element with properties (class, data and aria attributes among them) and children. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.includes("-") && key !== "list") made[key] = value;
    else made.setAttribute(key === "className" ? "class" : key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const GLYPHS = {
  send: "M4 12h15M13 6l6 6-6 6", stop: "M7 7h10v10H7z", attach: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 5 5l-8.6 8.5a1.7 1.7 0 0 1-2.4-2.4L15 7",
  microphone: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4", camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 17a4 4 0 1 0 0-8 4 4 0 0 0 0 8z",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M14 5v4M8 15v4", menu: "M4 6h16M4 12h16M4 18h16", plus: "M12 5v14M5 12h14", more: "M12 5v.01M12 12v.01M12 19v.01",
};

/** A button that shows a glyph and says its name. */
export function iconButton(glyph, label, onclick, more = {}) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "glyph");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", GLYPHS[glyph]);
  svg.append(path);
  return el("button", { type: "button", className: "icon", title: label, "aria-label": label, onclick, ...more }, svg);
}
