// Pages for people who give: what they agree to, one prompt after the other, reviews of others' items, and taking back.

import { get, send, tell } from "./api.js";
import { el } from "./dom.js";
import { making } from "./make.js";
import { begin, failure, mediumAt, newId, query, session, who } from "./people.js";
import { current, t } from "./words.js";

const main = document.getElementById("main");

const shown = ({ type, words, url }) => (words === undefined ? mediumAt(`${url}${query()}`, type) : el("p", { className: "given" }, words));

class Agree {
  async show() {
    const { version, needed, translations, ...original } = session.about.consent;
    const { terms, purposes } = { ...original, ...translations[current()] };
    const boxes = Object.entries(purposes).map(([name, words]) => el("label", { className: "purpose" }, el("input", { type: "checkbox", value: name, checked: (session.ticked ?? session.about.agreed).includes(name) }), el("span", {}, words)));
    const told = el("p", { role: "alert", className: "bad" });
    const ticked = () => boxes.map((box) => box.querySelector("input")).filter(({ checked }) => checked).map(({ value }) => value);
    for (const box of boxes) box.addEventListener("change", () => { session.ticked = ticked(); }); // stays when the language is another
    const agree = async () => {
      const chosen = ticked();
      if (!needed.every((name) => chosen.includes(name))) { told.textContent = t("needed"); return; }
      try {
        session.about.agreed = (await send("POST", "/collect/consents", { ...who(), version, purposes: chosen })).agreed;
        session.ticked = null;
        if (location.hash === "#give") dispatchEvent(new HashChangeEvent("hashchange"));
        else location.hash = "give";
      } catch (error) {
        told.textContent = error.message;
      }
    };
    main.replaceChildren(el("div", { className: "work" }, el("h2", {}, t("agreeTitle")), el("div", { className: "bubble consent" }, terms), boxes, told,
      el("p", { className: "row" }, el("button", { type: "button", className: "primary", onclick: agree }, t("agree")), el("span", { className: "small soft" }, `${t("version")} ${version}`))));
  }
}

class Give {
  async show() {
    this.take(await send("POST", "/collect/next", who()));
  }

  take({ prompt }) {
    this.hide();
    this.prompt = prompt;
    if (!prompt) return main.replaceChildren(el("div", { className: "work" }, el("p", { className: "ask", role: "status" }, t("nothingToGive"))));
    this.id = newId();
    this.maker = making(prompt);
    this.failure = el("div", { role: "alert" });
    main.replaceChildren(el("div", { className: "work" }, el("p", { className: "ask" }, prompt.prompt), this.maker.element, this.failure,
      el("p", { className: "row" }, el("button", { type: "button", className: "primary give", onclick: () => this.give() }, t("give")), el("button", { type: "button", onclick: () => this.show() }, t("another")))));
    tell(prompt.prompt);
  }

  hide() {
    this.maker?.close?.();
    this.maker = null;
  }

  get isBegun() {
    return Boolean(this.maker?.isBegun);
  }

  /** Send what was made; where it will not do, or does not arrive, it stays, and goes again under the same id. */
  async give() {
    if (this.isBusy || !this.maker) return;
    this.isBusy = true;
    try {
      const value = await this.maker.value();
      if (!value) throw new Error(t("nothingMade"));
      this.take(await send("POST", "/collect/items", { ...who(), id: this.id, prompt: this.prompt.id, ...value }));
      tell(t("thanks"));
    } catch (error) {
      this.failure.replaceChildren(el("p", { className: "failed" }, `${t("notSaved")} ${error.message}`));
    } finally {
      this.isBusy = false;
    }
  }

  key(event) {
    if (event.key !== "Enter" || !event.ctrlKey) return false;
    this.give();
    return true;
  }
}

class Review {
  async show() {
    await this.take(await send("POST", "/collect/reviews/next", who()));
  }

  async take({ item }) {
    this.item = null; // nothing to vote on until it is shown
    if (!item) return main.replaceChildren(el("div", { className: "work" }, el("p", { className: "ask", role: "status" }, t("nothingToReview"))));
    const medium = await shown(item);
    this.failure = el("div", { role: "alert" });
    main.replaceChildren(el("div", { className: "work" }, el("p", { className: "ask" }, item.prompt), el("div", { className: "item" }, medium), this.failure,
      el("p", { className: "row" }, el("button", { type: "button", onclick: () => this.vote(true) }, el("kbd", {}, "1"), t("good")), el("button", { type: "button", onclick: () => this.vote(false) }, el("kbd", {}, "2"), t("notGood")))));
    this.item = item;
  }

  async vote(isGood) {
    const { item } = this;
    if (!item) return;
    this.item = null;
    try {
      await this.take(await send("POST", "/collect/votes", { ...who(), item: item.id, is_good: isGood }));
    } catch (error) {
      this.failure.replaceChildren(failure(error), el("button", { type: "button", onclick: () => this.show() }, t("another")));
    }
  }

  key(event) {
    if (!this.item || !["1", "2"].includes(event.key)) return false;
    this.vote(event.key === "1");
    return true;
  }
}

class Mine {
  async show() {
    const { items } = await get(`/collect/items${query()}`);
    const place = el("div", { className: "work" }, el("h2", {}, `${t("mine")}: ${items.length}`));
    const back = async (ids) => {
      if (!confirm(ids ? t("backSure") : t("backAllSure"))) return;
      const { items: gone, left } = await send("POST", "/collect/withdrawals", { ...who(), items: ids });
      Object.assign(session, { about: await get(`/collect/project${query()}`), ticked: null });
      tell(`${gone.length} ${t("gone")}`);
      await this.show();
      if (Object.keys(left).length) main.firstChild.append(el("p", { role: "alert", className: "failed" }, t("notCleared")));
    };
    if (items.length || session.about.agreed.length) place.append(el("p", {}, el("button", { type: "button", className: "bad all", onclick: () => back(null) }, t("backAll"))));
    main.replaceChildren(place);
    for (const item of items) {
      place.append(el("section", { className: "dispute" }, el("p", { className: "soft small" }, `${item.prompt} · ${t(item.standing)}`), await shown(item), el("p", {}, el("button", { type: "button", onclick: () => back([item.id]) }, t("back")))));
    }
  }
}

document.getElementById("name-help").dataset.t = "nameHelpCollect";
begin("/collect/project", { give: Give, review: Review, mine: Mine, consent: Agree }, () => ["give", "review", "mine", "consent"], (name) => (session.about.agreed.length || name === "mine" ? name : "consent"));
