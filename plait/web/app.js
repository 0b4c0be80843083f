// The pages: which one is shown, and in which language.

import { get } from "./api.js";
import { Compare } from "./compare.js";
import { el } from "./dom.js";
import { Grid } from "./grid.js";
import { loaded, ModelPage } from "./model.js";
import { Talk } from "./talk.js";
import { Why } from "./why.js";
import { current, speak, t } from "./words.js";

const main = document.getElementById("main");
const tabs = document.getElementById("tabs");
const language = document.getElementById("language");
let models = [], modalities = [], talk = null, page = null;

const PAGES = {
  talk: () => (talk ??= new Talk(main, models, modalities)),
  grid: () => new Grid(main, models, modalities),
  compare: () => new Compare(main, models, modalities),
  why: () => new Why(main, models, modalities),
  model: () => new ModelPage(main, models),
};

function head() {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "talk";
  tabs.replaceChildren(...Object.keys(PAGES).map((each) => el("a", { href: `#${each}`, "aria-current": each === name ? "page" : undefined }, t(each))));
  document.title = `Plait · ${t(name)}`;
  return name;
}

async function show() {
  page?.hide?.();
  page = PAGES[head()]();
  await page.show();
}

language.value = current();
language.addEventListener("change", () => {
  speak(language.value);
  if (page?.isBegun) head(); // what was begun stays as it is
  else show();
});
addEventListener("hashchange", show);
speak(current());
try {
  [models, { modalities }] = await Promise.all([loaded(), get("/modalities")]);
  await show();
} catch (error) {
  main.replaceChildren(el("div", { className: "page" }, el("p", { role: "alert" }, error.message)));
}
