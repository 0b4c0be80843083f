// What the pages for people who label and who give have in common: who they are, which page is shown, how media look.

import { get, request } from "./api.js";
import { el } from "./dom.js";
import { current, speak, t } from "./words.js";

const NAME = "plait.name";
const MEDIA = [["image/", (src, options) => el("img", { src, alt: t("picture"), ...options.image })], ["audio/", (src, options) => el("audio", { src, controls: true, ...options.audio })], ["video/", (src) => el("video", { src, controls: true })]];

/** What the server told of the project, and who asks. */
export const session = { about: null };

export const who = () => ({ person: session.about?.is_named ? "" : localStorage.getItem(NAME) ?? "" });
export const query = () => `?person=${encodeURIComponent(who().person)}`;

/** An id that nothing else has. */
export const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** An element that shows the medium at an address of the server; `options`: properties of the elements `image` and `audio`. */
export async function mediumAt(address, name, options = {}) {
  const blob = await (await request(address)).blob();
  const url = URL.createObjectURL(blob);
  const element = MEDIA.find(([kind]) => blob.type.startsWith(kind))?.[1](url, options) ?? el("a", { href: url, download: name }, t(name));
  await element.decode?.(); // a picture that is broken is said, not shown
  return element;
}

export const failure = (error) => el("p", { role: "alert", className: "failed" }, error.message);

function askName() {
  const dialog = document.getElementById("name");
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => {
    const name = document.getElementById("name-value").value.trim();
    if (!name) return done(askName());
    localStorage.setItem(NAME, name);
    done();
  }, { once: true }));
}

/** Show the pages of a project at `path`: classes by name. `listed` gives the names that are shown, `chosen` the one of those that is, for the one that is wanted. */
export async function begin(path, pages, listed, chosen) {
  const main = document.getElementById("main"), language = document.getElementById("language");
  let page;
  async function show() {
    const names = listed(), wanted = location.hash.slice(1);
    const name = chosen(names.includes(wanted) ? wanted : names[0]);
    document.getElementById("tabs").replaceChildren(...names.map((each) => el("a", { href: `#${each}`, "aria-current": each === name ? "page" : undefined }, t(each))));
    document.title = `Plait · ${t(name)}`;
    document.getElementById("person").textContent = session.about.person;
    page = new pages[name]();
    await page.show().catch((error) => main.replaceChildren(el("div", { className: "work" }, failure(error))));
  }
  addEventListener("keydown", (event) => {
    if (event.repeat && !event.key.startsWith("Arrow")) { // a key that is held answers once
      if (event.key === "Enter") event.preventDefault(); // nor does it press a button again
      return;
    }
    if (!document.querySelector("dialog[open]") && page?.key?.(event)) event.preventDefault();
  });
  language.value = current();
  language.addEventListener("change", () => { speak(language.value); show(); });
  addEventListener("hashchange", show);
  speak(current());
  try {
    session.about = await get(`${path}${query()}`);
    if (!session.about.is_named && !localStorage.getItem(NAME)) await askName();
    session.about = await get(`${path}${query()}`);
    await show();
  } catch (error) {
    main.replaceChildren(el("div", { className: "work" }, failure(error)));
  }
}
