// The server's API: JSON, and streams of events. Errors are Errors with the server's own message.

import { t } from "./words.js";

const KEY = "plait.key";

let asking = null; // several requests may be refused at once: one dialog answers them all

function askKey(problem) {
  const dialog = document.getElementById("key"), field = document.getElementById("key-value");
  document.getElementById("key-problem").textContent = problem;
  field.value = "";
  dialog.showModal();
  return new Promise((done, refuse) => {
    dialog.addEventListener("close", () => {
      const key = field.value.trim();
      if (!key) return refuse(new Error(t("noKey")));
      localStorage.setItem(KEY, key);
      done();
    }, { once: true });
  });
}

/** A response of the server; asks the person for a key where one is missing. */
export async function request(path, options = {}) {
  const key = localStorage.getItem(KEY);
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    if (key === localStorage.getItem(KEY)) await (asking ??= askKey(key ? t("wrongKey") : "").finally(() => { asking = null; }));
    return request(path, options); // with the key that was given meanwhile
  }
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    throw Object.assign(new Error(told?.error?.message ?? `${response.status} ${response.statusText}`), { status: response.status });
  }
  return response;
}

export const get = async (path) => (await request(path)).json();
export const send = async (method, path, body) => (await request(path, { method, body: body && JSON.stringify(body) })).json();

/** Objects of a stream of events, up to [DONE]. */
export async function* events(path, body, signal) {
  const response = await request(path, { method: "POST", body: JSON.stringify(body), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error(t("broken")); // whole streams end with [DONE]
      held += value;
      const pieces = held.split("\n\n");
      held = pieces.pop();
      for (const piece of pieces) {
        const data = piece.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const told = JSON.parse(data);
        if (told.error) throw new Error(told.error.message);
        yield told;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Say something to people who see the page, and to those who hear it. */
export function tell(text) {
  document.getElementById("status").textContent = text;
}

/** Save what a path gives as a file. */
export async function download(path, name) {
  const url = URL.createObjectURL(await (await request(path)).blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
}

export { t };
