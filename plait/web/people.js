// What the pages for people who label and who give have in common: who they are, which page is shown, how media look.

import { get, request } from "./api.js";
import { el } from "./dom.js";
import { current, speak, t } from "./words.js";

const NAME = "plait.name";
const MEDIA = [["image/", (src, options) => el("img", { src, alt: t("picture"), ...options.image })], ["audio/", (src, options) => el("audio", { src, controls: true, ...options.audio })], ["video/", (src) => el("video", { src, controls: true })]];

/** What the server told of the project, and who asks; `ticked`: purposes that are not sent yet. */
export const session = { about: null, ticked: null };

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

/** Ask for a name; Escape keeps the one that there is. */
function askName() {
  const dialog = document.getElementById("name"), field = document.getElementById("name-value"), known = localStorage.getItem(NAME) ?? "";
  field.value = known;
  dialog.oncancel = () => { field.value = known; };
  dialog.showModal();
  field.select();
  return new Promise((done) => dialog.addEventListener("close", () => {
    const name = field.value.trim();
    if (!name) return done(askName());
    localStorage.setItem(NAME, name);
    done();
  }, { once: true }));
}

/** Show the pages of a project at `path`: classes by name. `listed` gives the names that are shown, `chosen` the one of those that is, for the one that is wanted. */
export async function begin(path, pages, listed, chosen) {
  const main = document.getElementById("main"), language = document.getElementById("language"), person = document.getElementById("person");
  let page, shownName;
  function nameNow() {
    const names = listed(), wanted = location.hash.slice(1);
    return chosen(names.includes(wanted) ? wanted : names[0]);
  }
  function head() {
    const names = listed(), name = nameNow();
    document.getElementById("tabs").replaceChildren(...names.map((each) => el("a", { href: `#${each}`, "aria-current": each === name ? "page" : undefined }, t(each))));
    document.title = `Plait · ${t(name)}`;
    person.textContent = session.about.person;
    person.title = session.about.is_named ? "" : t("changeName");
    person.disabled = session.about.is_named; // keys say who it is
    return name;
  }
  async function show() {
    page?.hide?.();
    shownName = head();
    page = new pages[shownName]();
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
  language.addEventListener("change", () => {
    speak(language.value);
    if (page?.isBegun) head(); // what was begun stays; the next item speaks the other language
    else show();
  });
  person.addEventListener("click", async () => {
    const before = localStorage.getItem(NAME);
    await askName();
    if (localStorage.getItem(NAME) === before) return;
    const keep = () => (before === null ? localStorage.removeItem(NAME) : localStorage.setItem(NAME, before));
    if (page?.isBegun && !confirm(t("leaveSure"))) return keep();
    try {
      Object.assign(session, { about: await get(`${path}${query()}`), ticked: null });
    } catch (error) { // a name that the server does not take
      keep();
      alert(error.message);
      return;
    }
    await show();
  });
  addEventListener("hashchange", () => {
    if (!page?.isBegun) show();
    else if (nameNow() === shownName) return; // it is shown
    else if (confirm(t("leaveSure"))) show();
    else history.pushState(null, "", `#${shownName}`);
  });
  speak(current());
  const about = () => get(`${path}${query()}`).catch((error) => {
    if (error.status === 400) localStorage.removeItem(NAME); // the server takes no such name: the next try asks anew
    throw error;
  });
  try {
    session.about = await about();
    if (!session.about.is_named && !localStorage.getItem(NAME)) {
      await askName();
      session.about = await about();
    }
    await show();
  } catch (error) {
    main.replaceChildren(el("div", { className: "work" }, failure(error)));
  }
}
